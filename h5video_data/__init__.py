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
from .errors import H5VideoError
from .sampling.clips import Clip
from .sampling.windows import Windows

if TYPE_CHECKING:
    import h5video_data.callbacks as callbacks
    import h5video_data.testing as testing
    import h5video_data.transforms as transforms

    from .dataset import video_dataset_from_hdf5
    from .loader import VideoLoader
    from .splits import split_samples
    from .tools.inspection import inspect
    from .tools.pack import pack
    from .tools.read_video import read_video
    from .tools.repack import repack
    from .tools.show import show
    from .tools.write_videos import write_videos
    from .transforms.statistics import channel_statistics

__all__ = [
    "Clip",
    "H5VideoError",
    "VideoLoader",
    "Windows",
    "callbacks",
    "channel_statistics",
    "errors",
    "inspect",
    "pack",
    "read_video",
    "repack",
    "samplers",
    "show",
    "split_samples",
    "testing",
    "transforms",
    "video_dataset_from_hdf5",
    "write_videos",
]

__version__ = "0.2.0"

# Imported on first use: they import TensorFlow (seconds), or h5py and imagecodecs (tenths of one).
_LAZY = {
    "VideoLoader": "loader",
    "callbacks": "callbacks",
    "channel_statistics": "transforms.statistics",
    "inspect": "tools.inspection",
    "pack": "tools.pack",
    "read_video": "tools.read_video",
    "repack": "tools.repack",
    "show": "tools.show",
    "split_samples": "splits",
    "testing": "testing",
    "transforms": "transforms",
    "video_dataset_from_hdf5": "dataset",
    "write_videos": "tools.write_videos",
}


if not TYPE_CHECKING:  # or type checkers would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f".{_LAZY[name]}", __name__)
        return module if name == _LAZY[name] else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
