"""What the tests of layout share with others."""

from __future__ import annotations

import h5py
import numpy as np
from imagecodecs import h5checksum_lookup3

from h5video_data.storage.layout import describe

SHAPE = (5, 4, 3)


def described(path, name="X", **options):
    with h5py.File(path, "w") as file:
        file.create_dataset(name, **{"data": np.arange(60, dtype="<u2").reshape(SHAPE), **options})
    with h5py.File(path) as file:
        return describe(file[name])


def change_numbers(path, numbers, new):
    """Replaces numbers of 8 bytes in the object headers of a new file, and mends the checksums.

    Args:
        path: A file of the latest version of the format.
        numbers: For each to be replaced, the number, and which of those alike it is.
        new: What it becomes.
    """
    data = bytearray(path.read_bytes())
    places = []
    for number, which in numbers:
        place = -1
        for _ in range(which + 1):
            place = data.index(number.to_bytes(8, "little"), place + 1)
        places.append(place)
    for place in places:
        begin = data.rindex(b"OHDR", 0, place)
        (end,) = [
            n
            for n in range(place + 8, min(place + 400, len(data) - 4))
            if h5checksum_lookup3(bytes(data[begin:n])) == int.from_bytes(data[n : n + 4], "little")
        ]
        data[place : place + 8] = new.to_bytes(8, "little")
        data[end : end + 4] = h5checksum_lookup3(bytes(data[begin:end])).to_bytes(4, "little")
    path.write_bytes(data)
