"""Behaviour cloning with chunks of actions, from episodes as ACT and ALOHA write them.

    python examples/behaviour_cloning.py --data episodes/     # episode_0.hdf5, episode_1.hdf5, ...
    python examples/behaviour_cloning.py                      # to try it, with a few small ones

An observation is the camera's last frames and where the joints are. The model predicts the actions
from there on. Near the end of an episode the chunk is longer than what is left: the last action
stands in for those that there are not, and `is_pad` leaves them out of the loss.
"""

from __future__ import annotations

import argparse
import glob
import os
import tempfile
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

import h5video_data as h5v


def make_model(observation: dict[str, tf.TensorSpec], actions: tf.TensorSpec) -> tf.keras.Model:
    """Returns a small policy: frames and joints in, a chunk of actions out."""
    layers = tf.keras.layers
    frames = layers.Input(observation["image"].shape[1:], name="image", dtype="uint8")
    joints = layers.Input(observation["qpos"].shape[1:], name="qpos")
    x = layers.Rescaling(1 / 127.5, offset=-1)(frames)
    x = layers.TimeDistributed(layers.Conv2D(16, 5, strides=2, activation="relu"))(x)
    x = layers.TimeDistributed(layers.GlobalAveragePooling2D())(x)
    x = layers.Concatenate()([layers.Flatten()(x), joints])
    x = layers.Dense(64, activation="relu")(x)
    x = layers.Dense(actions.shape[1] * actions.shape[2])(x)
    model = tf.keras.Model({"image": frames, "qpos": joints}, layers.Reshape(actions.shape[1:])(x))
    model.compile("adam", "mean_absolute_error")
    return model


def read_statistics(paths: list[str], name: str) -> tuple[Any, Any]:
    """Returns mean and standard deviation of each joint over all episodes."""
    rows = []
    for path in paths:
        with h5py.File(path) as file:
            rows.append(file[name][:])
    joined = np.concatenate(rows).astype(np.float32)
    return joined.mean(axis=0), joined.std(axis=0).clip(0.01)


def main() -> None:
    """Parses the arguments and trains."""
    parser = argparse.ArgumentParser(description="Behaviour cloning with chunks of actions.")
    parser.add_argument("--data", help="folder of episodes; default: a few small ones")
    parser.add_argument("--camera", default="top")
    parser.add_argument("--history", type=int, default=2, help="frames of an observation")
    parser.add_argument("--chunk", type=int, default=10, help="actions that are predicted")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    folder = arguments.data
    if folder is None:
        folder = tempfile.mkdtemp()
        lengths = [30, 22, 41, 28, 35, 26]
        h5v.testing.write_recordings(folder, lengths, layout="files", frame_shape=(48, 64, 3))
    paths = sorted(glob.glob(os.path.join(folder, "*.hdf5")))
    joints_mean, joints_std = read_statistics(paths, "observations/qpos")
    actions_mean, actions_std = read_statistics(paths, "action")

    def normalize(x: dict[str, tf.Tensor], y: tf.Tensor) -> tuple[Any, tf.Tensor, tf.Tensor]:
        """Returns observations, actions, and a weight of each: 0 for those that are padded."""
        weights = tf.cast(~x["is_pad"], tf.float32)  # (batch, chunk)
        joints = (tf.cast(x["qpos"], tf.float32) - joints_mean) / joints_std
        actions = (tf.cast(y, tf.float32) - actions_mean) / actions_std
        return {"image": x["image"], "qpos": joints}, actions, weights

    train, val = h5v.video_dataset_from_hdf5(
        paths,
        x={"image": f"observations/images/{arguments.camera}", "qpos": "observations/qpos"},
        y="action",
        windows=h5v.Windows(
            {"image": range(1 - arguments.history, 1)},  # "qpos" is that of the anchor alone
            range(arguments.chunk),
            pad="edge",
            mask="is_pad",
        ),
        batch_size=arguments.batch_size,
        validation_split=0.2,  # of the episodes
        subset="both",
        seed=0,
        map_fn=normalize,
    )
    model = make_model(*train.element_spec[:2])
    model.fit(train, validation_data=val, epochs=arguments.epochs, shuffle=False)
    print(f"trained on {train.loader.num_samples} observations of {len(paths)} episodes")


if __name__ == "__main__":
    main()
