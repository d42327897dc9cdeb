"""Map functions on batches of clips, for `map_fn=`.

    map_fn=[random_crop(96, 96), random_flip(), channels_last(), to_float()]

Each of these makes a function of what an element is made of: it changes x and hands the rest (y,
sample weights) on; `mixup` and `cutmix` change labels and weights as well.

`key` says which values are changed instead of x: a name of x's dict or of y's; "x", "y" or
"sample_weight" for one that is no dict; or several of them, which all get the same random choice,
so that masks fit their clips: `random_flip(key=("x", "y"))`. If x is a dict, a key must be given.

Clips are (batch, frames, channels, rows, columns), as they are stored, or with
`data_format="channels_last"` (batch, frames, rows, columns, channels). A shape that can only be of
the other order, such as (batch, 16, 112, 112, 3) without `data_format`, is an ArgumentError;
`"channels_first"` is taken at its word.

Random choices are the same for all frames of a clip and independent from clip to clip. They are a
function of `seeds`, int32 (batch, 2), alone, so they do not depend on the number of threads, and
come again with the same seed and epoch.

Clips keep their dtype, but for `to_float` and `normalize`. What is calculated in between, in
float32 (float64 for float64 and for integers of 32 bits and more), is rounded to the nearest value
that an integer dtype has, not wrapped around. Resizing is always in float32, but for `"nearest"`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .colour import normalize, random_brightness, random_contrast, random_saturation, to_float
    from .geometry import channels_last, random_crop, random_erasing, random_flip
    from .mixing import cutmix, mixup
    from .resizing import random_resized_crop, resize
    from .statistics import ChannelStatistics, channel_statistics
    from .temporal import (
        random_reverse,
        random_temporal_crop,
        temporal_jitter,
        temporal_subsample,
    )

__all__ = [
    "ChannelStatistics",
    "channel_statistics",
    "channels_last",
    "cutmix",
    "mixup",
    "normalize",
    "random_brightness",
    "random_contrast",
    "random_crop",
    "random_erasing",
    "random_flip",
    "random_resized_crop",
    "random_reverse",
    "random_saturation",
    "random_temporal_crop",
    "resize",
    "temporal_jitter",
    "temporal_subsample",
    "to_float",
]

# By module: importing them takes TensorFlow, but for `statistics`.
_MODULES = {
    "colour": (
        *("normalize", "random_brightness", "random_contrast", "random_saturation", "to_float"),
    ),
    "geometry": ("channels_last", "random_crop", "random_erasing", "random_flip"),
    "mixing": ("cutmix", "mixup"),
    "resizing": ("random_resized_crop", "resize"),
    "statistics": ("ChannelStatistics", "channel_statistics"),
    "temporal": (
        *("random_reverse", "random_temporal_crop", "temporal_jitter", "temporal_subsample"),
    ),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
