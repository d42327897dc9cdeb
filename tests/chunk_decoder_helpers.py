"""What the tests of chunk_decoder share with others."""

import numpy as np

from h5video_data.testing import labels, sample_values

SHAPE = (6, 3, 10, 12)


def epoch(loader):
    """The numbers of an epoch's samples; every batch is compared with what it must hold."""
    found = []
    for _, indices, (x, y) in loader.batches():
        np.testing.assert_array_equal(x, sample_values(indices, SHAPE))
        np.testing.assert_array_equal(y, labels(indices, 4))
        found += indices.tolist()
    return found
