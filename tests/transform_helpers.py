"""Clips, seeds, and ways to call map functions, for the tests of `transforms`."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from h5video_data.samplers import sample_seeds

FRAMES, CHANNELS, ROWS, COLUMNS = 2, 3, 5, 8
LAST = (0, 1, 3, 4, 2)

data_formats = pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
dtypes = pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float16"])


def make_clips(num, dtype="uint8"):
    """Clips, channels first, in each of which no value comes twice."""
    size = FRAMES * CHANNELS * ROWS * COLUMNS
    values = (np.arange(num)[:, np.newaxis] * 7 + np.arange(size)) % 241
    return values.reshape(num, FRAMES, CHANNELS, ROWS, COLUMNS).astype(dtype)


def noise(shape, dtype="uint8"):
    """Random clips: 0 to 255, or 0 to 1 for floats."""
    values = np.random.default_rng(0).integers(0, 256, shape)
    return (values / 255).astype(dtype) if np.dtype(dtype).kind == "f" else values.astype(dtype)


def make_seeds(num, epoch=0):
    return tf.constant(sample_seeds(0, epoch, np.arange(num)))


def apply(function, clips, data_format="channels_first", **options):
    """Calls a map function on clips in either order; the result has the channels first again."""
    if data_format == "channels_first":
        return function(tf.constant(clips), **options).numpy()
    result = function(tf.constant(clips.transpose(LAST)), **options).numpy()
    return result.transpose(0, 1, 4, 2, 3)


def call(function, *element, seeds=None):
    """Calls a map function as the dataset does, with the seeds of four samples."""
    takes_seeds = "seeds" in inspect.signature(function).parameters
    options = {"seeds": make_seeds(4) if seeds is None else seeds} if takes_seeds else {}
    return function(*element, **options)


def correlation(first, second):
    return abs(np.corrcoef(first, second)[0, 1])


def as_integers(values, dtype):
    """Casts floats as the map functions do: integers are rounded and saturate."""
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    return np.clip(np.rint(values), 0, np.iinfo(dtype).max).astype(dtype)
