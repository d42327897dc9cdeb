"""How HDF5 stores a dataset: files, layout, chunk tables, codecs."""
