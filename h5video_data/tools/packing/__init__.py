"""From video files to rows of an HDF5 file: which files, which frames, in which form."""
