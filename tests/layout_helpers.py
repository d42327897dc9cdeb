"""What the tests of layout share with others."""

from __future__ import annotations

import h5py
import numpy as np

from h5video_data.storage.layout import describe

SHAPE = (5, 4, 3)


def described(path, name="X", **options):
    with h5py.File(path, "w") as file:
        file.create_dataset(name, **{"data": np.arange(60, dtype="<u2").reshape(SHAPE), **options})
    with h5py.File(path) as file:
        return describe(file[name])
