"""3-D convolutional classifiers of several sizes."""

from __future__ import annotations

from typing import Any, NamedTuple

# Channels of the stages of a 3-D convolutional classifier, and convolutions of each stage.
MODELS = {"tiny": ((4,), 1), "small": ((16, 32, 64), 1), "large": ((64, 128, 256, 512), 2)}


# What the first layers make of a stored value: value * SCALE + OFFSET.
SCALE, OFFSET = 1 / 127.5, -1.0


class Models(NamedTuple):
    """Compiled models with the same convolutions and the same weights."""

    fed: Any
    """Takes video as it is stored; turns and scales it on the device."""
    prepared: Any
    """Takes float32 (batch, frames, rows, columns, channels), scaled."""
    resident: Any
    """Takes numbers (batch, 1), which it ignores: its first layer holds a batch. So `fit` runs in
    the same way, but has nothing to copy."""


def make_models(name: str, batch: tuple[Any, Any], policy_name: str) -> Models:
    """Makes a classifier that is given its video in three ways.

    Args:
        name: A key of `MODELS`.
        batch: (batch, frames, channels, rows, columns), and one-hot labels (batch, classes).
        policy_name: The layers' dtype policy, such as `mixed_float16`.
    """
    import keras

    clips, labels = batch
    layers = keras.layers
    policy = keras.DTypePolicy(policy_name)
    widths, depth = MODELS[name]
    frames, channels, rows, columns = clips.shape[1:]
    shape = (frames, rows, columns, channels)
    turned = layers.Input(shape, batch_size=len(clips), dtype=policy.compute_dtype)
    x = turned
    for stage, width in enumerate(widths):
        for number in range(depth):
            strides = (2 if stage else 1, 2, 2) if number == 0 else 1
            x = layers.Conv3D(
                width, 3, strides=strides, padding="same", activation="relu", dtype=policy
            )(x)
    x = layers.GlobalAveragePooling3D(dtype=policy)(x)
    x = layers.Dense(labels.shape[1], activation="softmax", dtype="float32")(x)
    prepared = keras.Model(turned, x)
    video = layers.Input(clips.shape[1:], batch_size=len(clips), dtype=str(clips.dtype))
    x = layers.Permute((1, 3, 4, 2), dtype=str(clips.dtype))(video)
    fed = keras.Model(video, prepared(layers.Rescaling(SCALE, OFFSET, dtype=policy)(x)))

    class Resident(keras.layers.Layer):  # type: ignore[misc]
        """Gives the clips that it holds, whatever it is given."""

        def __init__(self) -> None:
            super().__init__(dtype=str(clips.dtype))
            self.clips = self.add_weight(
                shape=clips.shape, dtype=str(clips.dtype), initializer="zeros", trainable=False
            )
            self.clips.assign(clips)

        def call(self, ticks: Any) -> Any:
            del ticks
            return keras.ops.convert_to_tensor(self.clips)

    ticks = layers.Input((1,), batch_size=len(clips))
    resident = keras.Model(ticks, fed(Resident()(ticks)))
    models = Models(fed, prepared, resident)
    for model in models:
        optimizer: Any = keras.optimizers.SGD(0.001)
        if policy_name == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(optimizer, "categorical_crossentropy")
    return models
