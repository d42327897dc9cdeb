"""Types of numbers that this package leaves to h5py."""

import h5py


def nine_bits(file):
    """An unsigned integer of which 9 bits of 16 count, committed to an open `h5py.File`."""
    stored_type = h5py.h5t.STD_U16LE.copy()
    stored_type.set_precision(9)
    stored_type.commit(file.id, b"nine_bits")
    return file["nine_bits"]


def write_long_integers(file, name, shape):
    """Creates a dataset of integers of 16 bytes, which NumPy has not, in an open `h5py.File`."""
    stored_type = h5py.h5t.STD_I64LE.copy()
    stored_type.set_size(16)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    h5py.h5d.create(file.id, name.encode(), stored_type, space)
