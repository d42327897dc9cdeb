"""Training on all GPUs of one machine, which resumes when it is started again.

    python examples/several_gpus.py --data video_data.h5
    python examples/several_gpus.py --cpus 2        # to try it without GPU, with a small test file

Keras divides each batch among the GPUs. The dataset is the same as for a single GPU.
"""

from __future__ import annotations

import argparse
import os
import tempfile

import tensorflow as tf

import h5video_data as h5v


def make_model(dataset: tf.data.Dataset) -> tf.keras.Model:
    """Returns a small classifier for the samples and labels of a dataset."""
    clips, labels = dataset.element_spec
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Input(clips.shape[1:]),
            layers.Rescaling(1 / 127.5, offset=-1),  # on the GPU, so that uint8 is copied
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(labels.shape[1], activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    """Parses the arguments and trains."""
    parser = argparse.ArgumentParser(description="Training on all GPUs of one machine.")
    parser.add_argument("--data", help="HDF5 file; default: a small test file")
    parser.add_argument("--folder", default="training", help="folder for checkpoints")
    parser.add_argument("--batch-size", type=int, default=24, help="global batch size, of all GPUs")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--cpus", type=int, help="number of logical CPU devices to use instead")
    arguments = parser.parse_args()

    if arguments.cpus:
        cpu = tf.config.list_physical_devices("CPU")[0]
        devices = [tf.config.LogicalDeviceConfiguration()] * arguments.cpus
        tf.config.set_logical_device_configuration(cpu, devices)
        strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(arguments.cpus)])
    else:
        strategy = tf.distribute.MirroredStrategy()
    if arguments.batch_size % strategy.num_replicas_in_sync:
        parser.error(f"--batch-size must be a multiple of {strategy.num_replicas_in_sync}")

    path = arguments.data
    if path is None:
        path = h5v.testing.write_video_file(
            os.path.join(tempfile.mkdtemp(), "video_data.h5"), num_samples=120
        )
    train, val = h5v.video_dataset_from_hdf5(
        path, batch_size=arguments.batch_size, validation_split=0.2, subset="both", seed=0
    )
    with strategy.scope():
        model = make_model(train)

    saved = os.path.join(arguments.folder, "backup")
    callbacks = [
        tf.keras.callbacks.BackupAndRestore(saved, save_freq=50),
        h5v.callbacks.FeedCheckpoint(train, os.path.join(arguments.folder, "feed.json")),
    ]
    model.fit(
        train, validation_data=val, epochs=arguments.epochs, callbacks=callbacks, shuffle=False
    )
    print(f"trained on {strategy.num_replicas_in_sync} devices")


if __name__ == "__main__":
    main()
