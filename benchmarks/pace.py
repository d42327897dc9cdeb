"""Steps of `fit`: the host may be ahead of the device, as ever, but by a few of them only."""

from __future__ import annotations

import threading
import time
from typing import Any

from h5video_data.callbacks.base import Callback

# More than enough for the host to have the next batch on the device before this step is done.
STEPS_AHEAD = 8


class Pace(Callback):
    """On JAX, Keras does not wait for the device after a step; nor does it with this callback.

    A hook at the end of a batch has it wait for the values of each step, so that the host would
    prepare nothing meanwhile, unless the callback says that other threads may call it. Then the
    hook is called when the device is done. On TensorFlow, Keras always waits.

    The number of steps is bounded, or a model with nothing to wait for would be given hundreds of
    them in a moment.

    Attributes:
        ends: When each step was done, by `time.perf_counter`; in no order.
    """

    async_safe = True

    def __init__(self) -> None:
        self.ends: list[float] = []
        self._room = threading.Semaphore(STEPS_AHEAD)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Waits until the step may begin; in the thread that trains."""
        del batch, logs
        self._room.acquire()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notes that the device is done; in a thread of Keras's."""
        del batch, logs
        self.ends.append(time.perf_counter())
        self._room.release()

    def wait(self) -> None:
        """Waits until the device has done all steps that were begun."""
        for _ in range(STEPS_AHEAD):
            self._room.acquire()
        self._room.release(STEPS_AHEAD)


class Clock(Pace):
    """Measures how long a step takes, and ends the training after some time.

    Args:
        max_seconds: When to end it, from the end of the first step on.
    """

    def __init__(self, max_seconds: float) -> None:
        super().__init__()
        self._max_seconds = max_seconds

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Waits until the step may begin, which is the last one if time is up."""
        super().on_train_batch_begin(batch, logs)
        if len(self.ends) > 1 and time.perf_counter() - min(self.ends) > self._max_seconds:
            self._model.stop_training = True

    @property
    def step_seconds(self) -> float:
        """Seconds of a step, the first one left out, whose data nobody could prepare."""
        return (max(self.ends) - min(self.ends)) / max(1, len(self.ends) - 1)
