"""Next-frame prediction with a ConvLSTM: each frame of a window is predicted from those before it.

    python examples/next_frames.py --data videos.h5 --frames pixels --bounds ep_offset
    python examples/next_frames.py                  # to try it, with balls that bounce

The recordings lie end to end in one dataset, (rows, height, width, channels) uint8. x and y are two
windows of the same frames, which are read once.
"""

from __future__ import annotations

import argparse
import os
import tempfile

import h5py
import numpy as np
import tensorflow as tf

import h5video_data as h5v


def write_balls(path: str, num_recordings: int = 24, size: int = 16) -> None:
    """Writes recordings of 20 to 40 frames, each of a ball that bounces."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 41, num_recordings)
    grid = np.moveaxis(np.indices((size, size)), 0, -1)  # (size, size, 2)
    frames = []
    for length in lengths:
        start, speed = rng.uniform(0, 2 * size, 2), rng.uniform(-2, 2, 2)
        path_of_ball = start + np.arange(length)[:, np.newaxis] * speed
        centers = np.abs(path_of_ball % (2 * size) - size)  # walls reflect it
        distances = np.linalg.norm(grid - centers[:, np.newaxis, np.newaxis], axis=-1)
        frames.append(np.uint8(255 * (distances < size / 5))[..., np.newaxis])
    with h5py.File(path, "w") as file:
        file["pixels"] = np.concatenate(frames)
        file["ep_offset"] = np.cumsum(lengths) - lengths


def make_model(frames: tf.TensorSpec) -> tf.keras.Model:
    """Returns a model that gives a picture for each frame of a window."""
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Input((None, *frames.shape[2:])),
            layers.ConvLSTM2D(8, 3, padding="same", return_sequences=True),
            layers.LayerNormalization(),
            layers.ConvLSTM2D(8, 3, padding="same", return_sequences=True),
            layers.Conv3D(frames.shape[-1], 3, padding="same", activation="sigmoid"),
        ]
    )
    model.compile(tf.keras.optimizers.Adam(0.01), "binary_crossentropy")
    return model


def to_fractions(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Makes numbers from 0 to 1 of bytes."""
    return tf.cast(x, tf.float32) / 255, tf.cast(y, tf.float32) / 255


def main() -> None:
    """Parses the arguments, trains, and compares with a forecast that nothing moves."""
    parser = argparse.ArgumentParser(description="Next-frame prediction.")
    parser.add_argument("--data", help="HDF5 file; default: a small one with balls")
    parser.add_argument("--frames", default="pixels", help="name of the dataset of frames")
    parser.add_argument("--bounds", default="ep_offset", help="name of the dataset of bounds")
    parser.add_argument("--length", type=int, default=8, help="frames of a window")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    path = arguments.data
    if path is None:
        path = os.path.join(tempfile.mkdtemp(), "balls.h5")
        write_balls(path)
    length = arguments.length
    train, val = h5v.video_dataset_from_hdf5(
        path,
        x=arguments.frames,
        y=arguments.frames,
        windows=h5v.Windows(range(length), range(1, length + 1), bounds=arguments.bounds),
        batch_size=arguments.batch_size,
        validation_split=0.25,  # of the recordings
        subset="both",
        seed=0,
        map_fn=to_fractions,
    )
    model = make_model(train.element_spec[0])
    model.fit(train, validation_data=val, epochs=arguments.epochs, shuffle=False)
    errors = [
        (np.abs(y - model.predict_on_batch(x)).mean(), np.abs(y - x).mean())
        for x, y in val.as_numpy_iterator()
    ]
    predicted, repeated = np.mean(errors, axis=0)
    print(f"mean error {predicted:.4f}; of the frame before, {repeated:.4f}")


if __name__ == "__main__":
    main()
