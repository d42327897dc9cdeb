"""What the tests of geometry share with others."""

from __future__ import annotations

import numpy as np


def ramps(num, rows, columns):
    """Clips of one frame whose two channels are the numbers of the row and of the column."""
    places = np.stack(np.mgrid[:rows, :columns]).astype(np.float32)
    return np.broadcast_to(places, (num, 1, 2, rows, columns))


def boxes_of(result):
    """(n, 4): top, left, height and width of what was resized, found from ramps made smaller."""
    found = []
    for axis, values in enumerate((result[:, 0, 0, :, 0], result[:, 0, 1, 0, :])):
        count = values.shape[1]
        size = (values[:, -1] - values[:, 0]) * count / (count - 1)
        found.append((values[:, 0] - size / count / 2 + 0.5, size, axis))
    (top, height, _), (left, width, _) = found
    boxes = np.stack([top, left, height, width], axis=1)
    np.testing.assert_allclose(boxes, np.rint(boxes), atol=1e-3)
    return np.rint(boxes).astype(int)
