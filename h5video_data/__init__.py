"""Feeds tf.keras models from video in HDF5, fast and exact to the sample.

Example:
    import h5video_data as h5v

    train, val = h5v.video_dataset_from_hdf5(
        "video_data.h5", batch_size=32, validation_split=0.3, subset="both", seed=0)
    model.fit(train, validation_data=val, epochs=100, shuffle=False)  # it is shuffled already
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import errors, samplers
from .clips import Clip
from .errors import H5VideoError

if TYPE_CHECKING:
    import h5video_data.callbacks as callbacks
    import h5video_data.testing as testing
    import h5video_data.transforms as transforms

    from .dataset import video_dataset_from_hdf5
    from .inspection import inspect
    from .loader import VideoLoader
    from .packing import pack
    from .repacking import repack
    from .subsets import split_samples

__all__ = [
    "Clip",
    "H5VideoError",
    "VideoLoader",
    "callbacks",
    "errors",
    "inspect",
    "pack",
    "repack",
    "samplers",
    "split_samples",
    "testing",
    "transforms",
    "video_dataset_from_hdf5",
]

__version__ = "0.1.0"

# Importing these takes TensorFlow (seconds) or h5py and imagecodecs (tenths): only when needed.
_LAZY = {
    "VideoLoader": "loader",
    "callbacks": "callbacks",
    "inspect": "inspection",
    "pack": "packing",
    "repack": "repacking",
    "split_samples": "subsets",
    "testing": "testing",
    "transforms": "transforms",
    "video_dataset_from_hdf5": "dataset",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_LAZY[name]}", __name__)
    return module if name == _LAZY[name] else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
