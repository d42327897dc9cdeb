"""The devices that TensorFlow has."""

from __future__ import annotations

import tensorflow as tf

from h5video_data.errors import ArgumentError


def check_device(device: str) -> None:
    """Raises an ArgumentError if there is no such device: TensorFlow would use the CPU."""
    devices = [found.name for found in tf.config.list_logical_devices()]
    wanted = _parse(device)
    if wanted is None or not any(_is_device(wanted, name) for name in devices):
        raise ArgumentError(
            f"`device` must be one of {', '.join(map(repr, devices))}. Received: device={device!r}"
        )


def cuda_gpu(device: str | None) -> int | None:
    """Returns the number by which CUDA knows the GPU that elements are for.

    Args:
        device: A device of TensorFlow's; None: its first GPU.

    Returns:
        The number among the GPUs that CUDA shows to this process; None: the device is no GPU of
        NVIDIA's.
    """
    wanted = None if device is None else _parse(device)
    if wanted is not None and wanted.device_type not in (None, "GPU"):
        return None
    gpus = tf.config.get_visible_devices("GPU") if tf.test.is_built_with_cuda() else []
    if not gpus:
        return None
    place = wanted.device_index if wanted is not None and wanted.device_index else 0
    # Where one GPU counts as several logical ones, there are fewer names than numbers. Each will
    # do: memory that is pinned for one GPU is so for all of them.
    return int(gpus[min(place, len(gpus) - 1)].name.rpartition(":")[2])


def _parse(device: str) -> tf.DeviceSpec | None:
    try:
        return tf.DeviceSpec.from_string(device)
    except (TypeError, ValueError, AttributeError):
        return None


def _is_device(wanted: tf.DeviceSpec, name: str) -> bool:
    """Whether a device has all the parts that the wanted one specifies."""
    found = tf.DeviceSpec.from_string(name)
    parts = ("job", "replica", "task", "device_type", "device_index")
    pairs = [(getattr(wanted, part), getattr(found, part)) for part in parts]
    return all(one == other for one, other in pairs if None not in (one, other))
