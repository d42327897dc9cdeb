"""What the tests of errors share."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from h5video_data import testing
from h5video_data.errors import (
    H5VideoError,
)
from h5video_data.loader import VideoLoader

ONE = (1, *testing.SAMPLE_SHAPE)
MANY = (4, *testing.SAMPLE_SHAPE)


def consume(path, **options):
    return list(VideoLoader(path, **options))


def raises(error, message, builtin=None):
    """Expects an error of this class, of the built-in one, and with all parts of the message.

    The parts are regular expressions, divided by " ... ".
    """
    if builtin is not None:
        assert issubclass(error, builtin)
    assert issubclass(error, H5VideoError)
    return pytest.raises(error, match="(?s)" + message.replace(" ... ", ".*"))


def edit(path):
    return h5py.File(path, "a")


def write(path, x, y=None, **attributes):
    with h5py.File(path, "w") as file:
        file["X"] = x
        file["Y"] = np.ones((len(x), 2)) if y is None else y
        file.attrs.update(attributes)
