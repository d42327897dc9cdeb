"""A world model on (pixels, action) windows, from recordings that lie end to end in one file.

    python examples/world_model.py --data pusht_expert_train.h5
    python examples/world_model.py                  # to try it, with a small file

The file is as stable-worldmodel writes it: `pixels`, `action`, and `ep_offset`, the row where each
episode begins. A window has 4 frames, 5 rows apart, and the 5 actions from each of them on. The
model encodes the frames, and predicts each encoding from the one before and the actions between.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import Any

import tensorflow as tf

import h5video_data as h5v

layers = tf.keras.layers


class WorldModel(tf.keras.Model):  # type: ignore[misc]
    """Encodes frames, and predicts the next encoding."""

    def __init__(self, size: int = 32) -> None:
        super().__init__()
        encoder = tf.keras.Sequential(
            [
                layers.Rescaling(1 / 127.5, offset=-1),
                layers.Conv2D(16, 5, strides=2, activation="relu"),
                layers.Conv2D(32, 3, strides=2, activation="relu"),
                layers.Flatten(),
                layers.Dense(size),
            ]
        )
        self.encoder = layers.TimeDistributed(encoder)
        self.predictor = tf.keras.Sequential(
            [layers.Dense(64, activation="relu"), layers.Dense(size)]
        )

    def call(self, x: dict[str, tf.Tensor]) -> tf.Tensor:
        """Returns the predicted encodings of all frames but the first; adds the loss."""
        encoded = self.encoder(x["pixels"])  # (batch, frames, size)
        before = tf.concat([encoded[:, :-1], x["action"][:, :-1]], axis=-1)
        predicted = self.predictor(before)
        self.add_loss(tf.reduce_mean((predicted - encoded[:, 1:]) ** 2))
        # Without it, the best encoding would be the same for all frames.
        spread = tf.math.reduce_std(tf.reshape(encoded, (-1, encoded.shape[-1])), axis=0)
        self.add_loss(tf.reduce_mean(tf.nn.relu(1 - spread)))
        return predicted


def main() -> None:
    """Parses the arguments and trains."""
    parser = argparse.ArgumentParser(description="A world model.")
    parser.add_argument("--data", help="HDF5 file; default: a small one")
    parser.add_argument("--frames", type=int, default=4, help="frames of a window")
    parser.add_argument("--stride", type=int, default=5, help="rows from one frame to the next")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    path = arguments.data
    if path is None:
        path = os.path.join(tempfile.mkdtemp(), "episodes.h5")
        lengths = [40, 25, 61, 33, 52, 12, 47, 38]  # one is shorter than a window: it is left out
        h5v.testing.write_recordings(path, lengths, frame_shape=(32, 32, 3), action_shape=(2,))
    num_frames, stride = arguments.frames, arguments.stride

    def join_actions(x: dict[str, Any]) -> dict[str, Any]:
        """Makes one vector of the actions from each frame on."""
        size = stride * x["action"].shape[-1]
        actions = tf.reshape(tf.cast(x["action"], tf.float32), (-1, num_frames, size))
        return {"pixels": x["pixels"], "action": actions}

    train, val = h5v.video_dataset_from_hdf5(
        path,
        x={"pixels": "pixels", "action": "action"},
        y=None,
        windows=h5v.Windows(
            {"pixels": num_frames, "action": range(num_frames * stride)},
            stride=stride,
            bounds="ep_offset",
        ),
        batch_size=arguments.batch_size,
        validation_split=0.2,  # of the episodes
        subset="both",
        seed=0,
        map_fn=join_actions,
    )
    for place, num_rows in train.loader.skipped_recordings:
        print(f"left out: {num_rows} rows from row {place.row} of {place.name}")
    model = WorldModel()
    model.compile("adam")
    model.fit(train, validation_data=val, epochs=arguments.epochs, shuffle=False)


if __name__ == "__main__":
    main()
