"""How HDF5 keeps video: files, layout, chunk tables, codecs."""
