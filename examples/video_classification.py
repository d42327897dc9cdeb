"""Classification of videos that differ in length; the folder that a video is in is its class.

    python examples/video_classification.py --data videos/     # videos/<class>/<name>.h5
    python examples/video_classification.py                    # to try it, with small videos

Each file has one video, (frames, height, width, channels) uint8. An epoch of training has a few
windows of each video, drawn anew each time. For validation they are spread evenly over the video,
and the video's class is the one that they predict together.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import Literal

import h5py
import numpy as np
import tensorflow as tf

import h5video_data as h5v


def write_videos(folder: str, videos_per_class: int = 12, size: int = 16) -> None:
    """Writes videos of a bar that moves to the left, to the right, or not at all."""
    rng = np.random.default_rng(0)
    for name, speed in (("left", -1), ("right", 1), ("still", 0)):
        os.makedirs(os.path.join(folder, name))
        for number in range(videos_per_class):
            frames = np.zeros((rng.integers(20, 60), size, size, 1), np.uint8)
            places = rng.integers(size) + speed * np.arange(len(frames))
            frames[np.arange(len(frames)), :, places % size] = 255
            with h5py.File(os.path.join(folder, name, f"{number}.h5"), "w") as file:
                file["video"] = frames


def make_model(frames: tf.TensorSpec, num_classes: int) -> tf.keras.Model:
    """Returns a small classifier of windows."""
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Input(frames.shape[1:], dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv3D(16, 3, padding="same", activation="relu"),
            layers.GlobalMaxPooling3D(),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )
    optimizer = tf.keras.optimizers.Adam(0.01)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    """Parses the arguments, trains, and classifies the videos of the validation side."""
    parser = argparse.ArgumentParser(description="Video classification.")
    parser.add_argument("--data", help="folder with a folder for each class; default: small videos")
    parser.add_argument("--dataset", default="video", help="name of the dataset in each file")
    parser.add_argument("--frames", type=int, default=8, help="frames of a window")
    parser.add_argument("--windows", type=int, default=4, help="windows of a video in an epoch")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    folder = arguments.data
    if folder is None:
        folder = tempfile.mkdtemp()
        write_videos(folder)

    def make_dataset(subset: Literal["training", "validation"]) -> tf.data.Dataset:
        is_training = subset == "training"
        return h5v.video_dataset_from_hdf5(
            os.path.join(folder, "*", "*.h5"),
            x=arguments.dataset,
            y="inferred",
            windows=h5v.Windows(
                arguments.frames,
                stride=2,
                per_recording=arguments.windows,
                position="random" if is_training else "spread",
            ),
            batch_size=arguments.batch_size,
            shuffle=is_training,
            validation_split=0.25,
            subset=subset,
            split_by="label",  # whole videos, as many of each class on both sides
            seed=0,
        )

    train, val = make_dataset("training"), make_dataset("validation")
    model = make_model(train.element_spec[0], len(train.class_names))
    model.fit(train, validation_data=val, epochs=arguments.epochs, shuffle=False)

    # The windows of a video follow each other.
    probabilities = model.predict(val).reshape(-1, arguments.windows, len(train.class_names))
    predicted = probabilities.mean(axis=1).argmax(axis=1)
    true = np.concatenate([y for _, y in val.as_numpy_iterator()])[:: arguments.windows]
    print(f"{np.mean(predicted == true):.0%} of {len(true)} videos are classified right")


if __name__ == "__main__":
    main()
