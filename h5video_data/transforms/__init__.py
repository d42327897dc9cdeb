"""Map functions on batches of clips, for `map_fn=`.

    map_fn=[random_crop(96, 96), random_flip(), channels_last(), to_float()]

Each of these returns a function of an element, (x, y), (x, y, sample_weight) or x. It changes x and
returns the rest as it is, except that `mixup` and `cutmix` mix labels and weights as well.

`key` names the values to change instead of x: a name of x's dict or of y's; "x", "y" or
"sample_weight" for an item that is not a dict; or several names. All of them get the same random
choice, so that masks fit their clips: `random_flip(key=("x", "y"))`. If x is a dict, `key` must be
given.

Clips are (batch, frames, channels, rows, columns), as they are stored, or with
`data_format="channels_last"` (batch, frames, rows, columns, channels). Without `data_format`, a
shape that can only be channels last, such as (batch, 16, 112, 112, 3), is an ArgumentError; with
`"channels_first"`, it is taken as given.

Images, (batch, channels, rows, columns) or (batch, rows, columns, channels), are taken as clips of
one frame, and stay images. They have 1, 3 or 4 channels, or what `data_format` says: other shapes
may be video without channels, and are an ArgumentError. Functions that select or order frames take
no images.

Random choices are the same for all frames of a clip and independent from clip to clip. They are a
function of `seeds`, int32 (batch, 2), alone: they do not depend on the number of threads, and are
repeated with the same seed and epoch.

Clips keep their dtype, except in `to_float` and `normalize`. Intermediate results are float32, or
float64 for float64 and for integers of 32 bits and more. For integer dtypes, they are rounded to
the nearest value and saturate. Resizing uses float32, except with `"nearest"`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__all__ = [
    "ChannelStatistics",
    "channel_statistics",
    "channels_last",
    "cutmix",
    "mixup",
    "normalize",
    "one_hot",
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
    "to_float",
]

if TYPE_CHECKING:
    from .colour import normalize, random_brightness, random_contrast, random_saturation, to_float
    from .geometry import channels_last, random_crop, random_erasing, random_flip
    from .labels import one_hot
    from .mixing import cutmix, mixup
    from .resizing import random_resized_crop, resize
    from .statistics import ChannelStatistics, channel_statistics
    from .temporal import random_reverse, random_temporal_crop, temporal_jitter
    from .temporal import temporal_subsample as temporal_subsample
else:
    # Imported when first used. `statistics` comes first: the others import TensorFlow, in seconds.
    _MODULES = ("statistics", "colour", "geometry", "labels", "mixing", "resizing", "temporal")

    def __getattr__(name: str) -> object:
        if name in (*__all__, "temporal_subsample"):
            for module in _MODULES:
                found = getattr(importlib.import_module(f".{module}", __name__), name, None)
                if found is not None:
                    return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
