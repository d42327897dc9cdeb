"""What the tests of dataset share with others."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

import h5video_data as h5v

NUM = 22


BATCH = 4


ALL = np.arange(NUM)


GROUPS = ALL // 3


def make(path, **options):
    return h5v.video_dataset_from_hdf5(path, **{"batch_size": BATCH, "seed": 3, **options})


def gather(dataset):
    """All of an epoch's elements, leaf by leaf, put together along the batch."""
    elements = list(dataset.as_numpy_iterator())
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *elements)


class OwnError(Exception):
    """An exception that TensorFlow knows nothing about, with a constructor of its own."""

    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code = code
