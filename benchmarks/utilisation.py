"""How long an emulated accelerator computes on a batch, by the configurations of MLPerf Storage.

MLPerf Storage (https://github.com/mlcommons/storage) emulates an accelerator by a pause as long as
its step takes. Accelerator utilisation is compute time over total time, the first step left out;
0.9 counts as fed (0.7 for CosmoFlow).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .measure import Feed

# Steps of a turn at most.
NUM_STEPS = 1000


@dataclass(frozen=True)
class Demand:
    """What one accelerator asks for: from `configs/dlio/workload` of MLPerf Storage."""

    batch_size: int
    sample_bytes: float
    step_seconds: float

    @property
    def bytes_per_second(self) -> float:
        """What keeps the accelerator busy."""
        return self.batch_size * self.sample_bytes / self.step_seconds


PRESETS = {
    "unet3d-h100": Demand(7, 146_600_628, 0.323),  # 3.18 GB/s
    "unet3d-a100": Demand(7, 146_600_628, 0.636),
    "cosmoflow-h100": Demand(1, 2_828_486, 0.0035),
    "resnet50-h100": Demand(400, 114_660.07, 0.224),
}


class ResidentFeed(Feed):
    """The same batch again and again, from memory: what the loop over a dataset costs in itself."""

    def __init__(self, batch_size: int, sample_shape: Sequence[int], dtype: str) -> None:
        """Makes the batch, of zeros."""
        import tensorflow as tf

        batch = tf.zeros((batch_size, *sample_shape), dtype), tf.zeros((batch_size,))
        super().__init__(tf.data.Dataset.from_tensors(batch).repeat(NUM_STEPS))


def step_seconds(text: str, batch_bytes: int) -> float:
    """The step time that a command line asks for.

    Args:
        text: Seconds, or the name of a preset: then the time in which it would ask for these bytes.
        batch_bytes: Bytes of a batch.

    Raises:
        ValueError: It is neither.
    """
    if text in PRESETS:
        return batch_bytes / PRESETS[text].bytes_per_second
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 3600:
        raise ValueError(
            f"an emulated accelerator's step is a number of seconds or one of {', '.join(PRESETS)}."
            f" Received: {text!r}"
        )
    return seconds
