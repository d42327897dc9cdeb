"""What the tests of stored_types share with others."""

from __future__ import annotations

import h5py
import numpy as np
from h5py import h5a, h5d, h5p, h5s

NUM_SAMPLES = 4


def write_typed(path, kind, value, **options):
    """A file with an attribute, a contiguous, and a compressed dataset of a type."""
    with h5py.File(path, "w", **options) as file:
        file["X"] = np.arange(NUM_SAMPLES, dtype="u1")
        values = np.frombuffer(value * NUM_SAMPLES, np.dtype((np.void, kind.get_size())))
        space = h5s.create_simple((NUM_SAMPLES,))
        for place in (file, file["X"]):
            h5a.create(place.id, b"note", kind, space).write(values, mtype=kind)
        chunked = h5p.create(h5p.DATASET_CREATE)
        chunked.set_chunk((3,))
        chunked.set_deflate(4)
        for name, plist in ((b"plain", None), (b"packed", chunked)):
            dataset = h5d.create(file.id, name, kind, space, plist)
            dataset.write(h5s.ALL, h5s.ALL, values, kind)
            note = h5a.create(dataset, b"note", kind, h5s.create(h5s.SCALAR))
            note.write(values[:1].reshape(()), mtype=kind)
    return path
