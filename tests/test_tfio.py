"""The same answers as tensorflow-io, on files that both can read.

Its last release, 0.37.1, reads HDF5 with TensorFlow 2.16 and 2.17 only: `pip install '.[tfio]'`.
"""

import h5py
import numpy as np
import pytest
import tensorflow as tf

from h5video_data import VideoLoader
from h5video_data.testing import write_video_file

tfio_ops = pytest.importorskip("tensorflow_io.python.ops", reason="needs pip install '.[tfio]'")
if int(tf.__version__.split(".")[1]) > 17:
    pytest.skip("tensorflow-io goes with TensorFlow 2.16 and 2.17", allow_module_level=True)

SHAPE = (4, 3, 10, 12)

LAYOUTS = {
    "contiguous": {},
    "sample": {"chunks": (1, *SHAPE)},
    "many samples": {"chunks": (5, 2, 3, 10, 12)},
    "gzip": {"chunks": (1, *SHAPE), "compression": "gzip"},
    "shuffle and gzip": {"chunks": (3, 4, 2, 10, 5), "compression": "gzip", "shuffle": True},
    "fletcher32": {"chunks": (1, *SHAPE), "fletcher32": True},
    "scale-offset": {"chunks": (1, *SHAPE), "scaleoffset": 0},
}


def read_by_tfio(path, name, index):
    """A sample, by the raw operation: `IODataset.from_hdf5` ends the process at five dimensions."""
    with h5py.File(path) as file:
        dataset = file[name]
        shape, dtype = dataset.shape, tf.as_dtype(dataset.dtype)
    values = tfio_ops.core_ops.io_hdf5_readable_read(
        input=path,
        shared=path,
        component=f"/{name}",
        shape=tf.constant(shape, tf.int64),
        start=tf.constant([index], tf.int64),
        # Its rank is what the operation takes for that of the data.
        stop=tf.fill([1] * len(shape), tf.constant(index + 1, tf.int64)),
        dtype=dtype,
        container="",
    )
    return values.numpy().reshape(shape[1:])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_the_same_samples(tmp_path, options, dtype):
    if "scaleoffset" in options and np.dtype(dtype).kind == "f":
        options = {**options, "scaleoffset": 3}
    path = write_video_file(
        tmp_path / "a.h5", num_samples=12, sample_shape=SHAPE, dtype=dtype, **options
    )
    with VideoLoader(path, batch_size=5, seed=0) as loader:
        for _, indices, (x, y) in loader.batches():
            for index, clip, label in zip(indices.tolist(), x, y, strict=True):
                np.testing.assert_array_equal(clip, read_by_tfio(path, "X", index))
                np.testing.assert_array_equal(label, read_by_tfio(path, "Y", index))
