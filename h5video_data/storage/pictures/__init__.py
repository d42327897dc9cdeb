"""Encoded pictures, JPEG and PNG: bytes into arrays. No files, no HDF5."""
