"""Switches of TensorFlow that people set: a script, since most hold for the whole process.

Its argument names the switch; it prints "right" if every batch of two epochs has the right values,
through map functions too, and a model is trained.
"""

import os
import sys

if __name__ == "__main__" and sys.argv[1] == "xla":
    os.environ["TF_XLA_FLAGS"] = "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit"

import h5py
import keras
import numpy as np
import tensorflow as tf

import h5video_data as h5v


def one_thread():
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)


SWITCHES = {
    "op determinism": tf.config.experimental.enable_op_determinism,
    "eager functions": lambda: tf.config.run_functions_eagerly(True),
    "one thread": one_thread,
    "xla": lambda: None,
}


def check(path, numbers, *, batch_size=5, options=None):
    def scaled(x, y):
        return tf.cast(x, tf.float32) / 2, y

    dataset = h5v.video_dataset_from_hdf5(
        path, batch_size=batch_size, seed=0, map_fn=[scaled, h5v.transforms.random_flip()]
    )
    used = dataset if options is None else dataset.with_options(options)
    for epoch in range(2):
        seen = []
        for x, y in used:
            labels = np.ravel(np.argmax(y, -1))
            # A flip leaves the sum as it is.
            sums = np.sum(x, axis=(-4, -3, -2, -1)).ravel()
            np.testing.assert_allclose(sums, numbers[labels] * 4 * 3 * 4 * 4 / 2)
            seen.extend(labels.tolist())
        assert sorted(seen) == [*range(len(numbers))], (epoch, seen)
    return dataset


def train(path, **how):
    dataset = h5v.video_dataset_from_hdf5(path, batch_size=5, seed=0)
    monitor = h5v.callbacks.FeedMonitor(dataset, verbose=0)
    layers = [keras.layers.Flatten(), keras.layers.Dense(22, activation="softmax")]
    model = keras.Sequential(layers)
    model.compile("sgd", "categorical_crossentropy", **how)
    history = model.fit(dataset, epochs=2, verbose=0, shuffle=False, callbacks=[monitor])
    assert np.isfinite(history.history["loss"]).all()
    # The first batch is always waited for.
    assert all(0 < report.wait <= 1 for report in monitor.history)
    assert len(dataset.loader._timestamps.left()) == 2 * dataset.loader.steps_per_epoch


def main(switch):
    keras.utils.set_random_seed(1)
    path, numbers = "switches.h5", np.arange(22) * 5
    with h5py.File(path, "w") as file:
        file["X"] = np.broadcast_to(numbers[:, None, None, None, None], (22, 4, 3, 4, 4)).astype(
            np.uint8
        )
        file["Y"] = np.eye(22, dtype=np.float32)
    if switch == "what needs no process of its own":
        for name in ("deterministic", "autotune", "private"):
            options = tf.data.Options()
            if name == "deterministic":
                options.deterministic = False
            elif name == "autotune":
                options.autotune.enabled = True
            else:
                options.threading.private_threadpool_size = 1
                options.threading.max_intra_op_parallelism = 1
            check(path, numbers, options=options)
        train(path, jit_compile=True)
        train(path, run_eagerly=True)
        keras.mixed_precision.set_global_policy("mixed_float16")
        train(path)
    else:
        SWITCHES[switch]()
        assert len(check(path, numbers).loader._timestamps.left()) == 10
        check(path, numbers, batch_size=None)
        train(path)
    print("right")


if __name__ == "__main__":
    main(sys.argv[1])
