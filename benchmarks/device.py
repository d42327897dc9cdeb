"""The accelerator that Keras trains on, and how fast bytes get there."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .measure import Feed, spread
from .settings import UsageError

ROUNDS = 10

Put: TypeAlias = Callable[[Any], Any]
"""A function that copies an array to the device, and returns when it is there."""


@dataclass(frozen=True)
class Device:
    """Where Keras trains."""

    backend: str
    """`tensorflow` or `jax`: Keras's backend, which may see a GPU where the other does not."""
    name: str
    is_gpu: bool

    @property
    def mixed_precision(self) -> str:
        """The policy of layers: half precision is for GPUs."""
        return "mixed_float16" if self.is_gpu else "float32"


def find_device(*, cpu: bool = False) -> Device:
    """The GPU that Keras trains on.

    Args:
        cpu: Whether a CPU will do, for a rehearsal.

    Raises:
        UsageError: There is none; the text says what was looked for.
    """
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            details = tf.config.experimental.get_device_details(gpus[0])
            return Device(backend, str(details.get("device_name", gpus[0].name)), is_gpu=True)
    elif backend == "jax":
        import jax
        import tensorflow as tf

        # tf.data runs on the host; TensorFlow must not take the memory that the model needs.
        tf.config.set_visible_devices([], "GPU")
        found = [device for device in jax.devices() if device.platform != "cpu"]
        if found:
            return Device(backend, found[0].device_kind, is_gpu=True)
    else:
        raise UsageError(
            f"--accelerator gpu: Keras runs on its {backend} backend; tensorflow and jax are "
            "measured here. Set KERAS_BACKEND."
        )
    if cpu:
        return Device(backend, "CPU", is_gpu=False)
    other = "jax" if backend == "tensorflow" else "tensorflow"
    raise UsageError(
        f"--accelerator gpu: no GPU was found. Keras runs on its {backend} backend, which sees "
        f"processors only; if {other} sees a GPU here, set KERAS_BACKEND={other}. Without a GPU, "
        "an accelerator can be emulated: --accelerator emulated:unet3d-h100"
    )


def copies(device: Device, batch: NDArray[Any], rounds: int = ROUNDS) -> dict[str, Any]:
    """Times of getting a batch to the device, as float32 as a model wants it.

    Args:
        device: The device.
        batch: A batch as it is stored, uint8 as a rule.
        rounds: How often each is measured, in turns.

    Returns:
        `stored`: copied as it is; `cast_on_device`: copied as it is and cast there;
        `cast_on_host`: cast and then copied. Seconds, (median, half the range of the middle half).
        `bytes_per_second` is that of the first.
    """
    put, cast = _functions(device)

    def cast_on_host() -> None:
        put(batch.astype(np.float32))

    ways: dict[str, Callable[[], Any]] = {
        "stored": functools.partial(put, batch),
        "cast_on_device": lambda: cast(put(batch)),
        "cast_on_host": cast_on_host,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begin)
    found: dict[str, Any] = {name: spread(values[1:]) for name, values in seconds.items()}
    return {**found, "bytes_per_second": batch.nbytes / found["stored"][0]}


def delivery(device: Device, feed: Feed, *, is_there: bool, put: Put | None = None) -> float:
    """Bytes per second of a feed's batches that arrive on the device.

    Args:
        device: The device.
        feed: A feed by a `tf.data.Dataset`.
        is_there: Whether its last stage has copied them.
        put: What copies an array; default: Keras's backend.
    """
    assert feed.batches is not None
    as_arrays = put is not None or device.backend == "jax"
    put = put or _functions(device)[0]
    num_bytes = 0
    feed.start_turn()
    begin = time.perf_counter()
    for x, _ in feed.batches:
        if not is_there:
            # `numpy()` would copy it.
            put(np.asarray(memoryview(x)) if as_arrays else x)
        num_bytes += int(np.prod(x.shape)) * x.dtype.size
    if is_there:
        _synchronise()
    return num_bytes / (time.perf_counter() - begin)


def takes_device() -> bool:
    """Whether this release's `VideoLoader`, and so its datasets, have the argument `device`."""
    from h5video_data import VideoLoader

    return "device" in inspect.signature(VideoLoader).parameters


def _functions(device: Device) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Two functions that return when it is done: copy to the device; cast to float32 there."""
    if device.backend == "jax":
        import jax

        jitted = jax.jit(lambda x: x.astype("float32"))
        return (
            lambda x: jax.device_put(x).block_until_ready(),
            lambda x: jitted(x).block_until_ready(),
        )
    import tensorflow as tf

    place = "/GPU:0" if device.is_gpu else "/CPU:0"

    def put(x: Any) -> Any:
        # Host memory that TensorFlow takes as it is; only then a copy to the device.
        with tf.device("/CPU:0"):
            host = tf.convert_to_tensor(x)
        with tf.device(place):
            there = tf.identity(host)
        _synchronise()
        return there

    def cast(x: Any) -> Any:
        with tf.device(place):
            there = tf.cast(x, tf.float32)
        _synchronise()
        return there

    return put, cast


def _synchronise() -> None:
    import tensorflow as tf

    tf.test.experimental.sync_devices()
