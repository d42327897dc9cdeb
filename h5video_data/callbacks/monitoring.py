"""`FeedMonitor`: measures how long a training waits for data, and for which stage of the feed."""

from __future__ import annotations

import bisect
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5video_data.loader import VideoLoader
from h5video_data.reading.prefetcher import LoaderStats

from .advice import Measurements, advise
from .base import Callback, loader_of
from .waiting import Intervals, waits_of_steps

if TYPE_CHECKING:
    import tensorflow as tf  # noqa: TID251 - only for the annotation

# Steps after which the time stamps are evaluated, of which the newest 4096 are kept.
_EVALUATE_EVERY = 500


@dataclass(frozen=True)
class EpochReport:
    """Report of one epoch of a training."""

    epoch: int
    num_steps: int
    seconds: float
    """Duration from the beginning of the epoch to the end of its last step, without validation."""
    steps_per_second: float
    samples_per_second: float
    wait: float
    """Fraction of `seconds` that the training waited for data, 0 to 1: the sum of the next four."""
    read: float
    """Fraction of `seconds` that it waited for reading."""
    decode: float
    """Fraction of `seconds` that it waited for decoding."""
    map: float
    """Fraction of `seconds` that it waited for map functions."""
    hand_over: float
    """Fraction of `seconds` that it waited for batches to be handed to TensorFlow."""
    advice: str
    """One line that says where the time goes, and what to do next."""

    @property
    def verdict(self) -> str:
        """Former name of `advice`."""
        return self.advice

    def logs(self) -> dict[str, float]:
        """Returns the entries that are added to the logs of the epoch."""
        rates = ("steps_per_second", "samples_per_second")
        waits = ("wait", "read", "decode", "map", "hand_over")
        return {f"feed_{name}": getattr(self, name) for name in rates + waits}


class FeedMonitor(Callback):
    """Keras callback that measures, each epoch, how long the training waits for its data.

        monitor = FeedMonitor(train, logs=True)
        model.fit(train, epochs=10, shuffle=False, callbacks=[monitor, CSVLogger("log.csv")])

    It prints one line an epoch, with advice. With `logs=True`, it adds to the epoch's logs, which
    Keras's progress bar shows and `History` keeps, for the callbacks after it in the list:
    `feed_steps_per_second`, `feed_samples_per_second`, `feed_wait` (the fraction of the epoch that
    the training waited), and its parts by what it waited for, `feed_read`, `feed_decode`,
    `feed_map` and `feed_hand_over`. Validation does not count.

    The k-th step of an epoch waits from its beginning until the feed delivers its k-th batch; only
    time in which a batch is requested from the feed counts. So the training may run on the dataset
    itself, or on a dataset made from it by `repeat`, `take`, `prefetch`, `batch` or a distribution
    strategy. Stages after the feed's last one are not measured, such as a copy to a device, a slow
    `map`, or a `cache` that the batches come from.

    It works with Keras 3 and with tf_keras. With such a callback, tf_keras waits for the results of
    each step, as it does when it shows a progress bar. Keras on JAX does not wait, with this
    callback either; a step then ends when the accelerator has finished it.

    Args:
        feed: The dataset that `video_dataset_from_hdf5` returned, or its `VideoLoader`.
        verbose: 1: print a line after each epoch. 0: print nothing.
        logs: Whether to add its values to the logs of the epochs.

    Attributes:
        history: An `EpochReport` for each epoch so far.
    """

    # tf_keras: if logs are not tensors, each step ends when its results are available.
    _supports_tf_logs = False

    # Keras 3 on JAX: do not wait for the results of each step; other threads call `*_end` hooks.
    async_safe = True

    def __init__(
        self, feed: tf.data.Dataset | VideoLoader, *, verbose: int = 1, logs: bool = False
    ) -> None:
        self.verbose = verbose
        self._adds_logs = logs
        self.history: list[EpochReport] = []
        self._loader = loader_of(feed)
        self._is_first = True
        self._meter: _EpochMeter | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Starts over for a new training."""
        del logs
        self._is_first = True
        self._meter = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts to measure an epoch."""
        del epoch, logs
        self._meter = _EpochMeter(self._loader)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Records the beginning of a step, or of several that run together."""
        del logs
        if self._meter is not None:
            self._meter.begin_steps(batch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Records the end of a step."""
        del logs
        meter = self._meter
        if meter is not None:
            steps = (self.params or {}).get("steps")
            # Keras 3 counts to the end of the last steps_per_execution, tf_keras to the last step.
            meter.end_steps(batch if steps is None else min(batch, steps - 1))

    def on_test_begin(self, logs: Any = None) -> None:
        """Ends the measurement of the training before the validation begins."""
        del logs
        if self._meter is not None:
            self._meter.end_training()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds to the logs and the history, and prints the advice."""
        meter, self._meter = self._meter, None
        measured = None if meter is None else meter.measurements(is_first=self._is_first)
        if measured is None:
            return
        self._is_first = False
        report = _report(epoch, measured, self._loader)
        self.history.append(report)
        if logs is not None and self._adds_logs:
            logs.update(report.logs())
        if self.verbose:
            # The progress bar has not ended its line yet.
            start = "\n" if (self.params or {}).get("verbose") in (1, "auto") else ""
            print(f"{start}Epoch {epoch + 1}: {report.advice}", flush=True)


def _report(epoch: int, measured: Measurements, loader: VideoLoader) -> EpochReport:
    return EpochReport(
        epoch=epoch,
        num_steps=measured.num_steps,
        seconds=measured.seconds,
        steps_per_second=measured.num_steps / measured.seconds,
        samples_per_second=measured.num_samples / measured.seconds,
        wait=measured.wait,
        read=measured.read,
        decode=measured.decode,
        map=measured.map,
        hand_over=measured.hand_over,
        advice=advise(measured, loader),
    )


class _Steps(NamedTuple):
    """Steps that were run together."""

    begin: float
    """When the steps before them had ended."""
    end: float
    num_steps: int
    given: float | None
    """When the device was given them, if that was in advance; None otherwise."""


class _EpochMeter:
    """Measures one epoch of a training.

    Steps begin in one thread. They may end in other threads, out of order, and after later steps
    have begun.
    """

    def __init__(self, loader: VideoLoader) -> None:
        self._loader = loader
        self._lock = threading.Lock()
        self._begun: deque[tuple[int, float]] = deque()
        """(first step, time) of steps that have begun and are not counted as ended."""
        self._ended: list[tuple[int, float]] = []
        """(last step, time) of steps that have ended, ascending, and are not counted yet."""
        self._thread = threading.get_ident()
        self._begin = self._end = time.time()
        self._steps: list[_Steps] = []
        """Steps that have ended and were not evaluated yet."""
        self._num_steps = 0
        self._is_training = True
        self._num_evaluated = 0
        """Steps that were evaluated."""
        self._num_given = 0
        """Elements that the feed delivered during them."""
        self._stats = self._stats_before = loader.stats
        self._waited = self._reading = self._handing_over = 0.0
        self._first_wait: float | None = None

    def begin_steps(self, first: int) -> None:
        """Records that a step begins, or several that run together, by the number of the first."""
        self._begun.append((first, time.time()))

    def end_steps(self, last: int) -> None:
        """Records that these steps have ended, by the number of the last."""
        now = time.time()
        with self._lock:
            bisect.insort(self._ended, (last, now))
            self._count_ended(in_advance=threading.get_ident() != self._thread)
            if self._num_steps - self._num_evaluated >= _EVALUATE_EVERY:
                self._evaluate()

    def _count_ended(self, *, in_advance: bool) -> None:
        """Moves the steps that have ended, with all those before them, to `_steps`."""
        while self._ended and self._begun:
            last, now = self._ended[0]
            if len(self._begun) > 1 and last >= self._begun[1][0]:
                return  # the end of earlier steps was not reported yet
            del self._ended[0]
            first, _ = self._begun.popleft()
            count = max(1, last - first + 1)
            begin, self._end = self._end, max(self._end, now)
            given = None
            if in_advance and count == 1:
                # The next step begins as soon as this one has been given to the device.
                given = min(self._begun[0][1], self._end) if self._begun else self._end
            self._steps.append(_Steps(begin, self._end, count, given))
            self._num_steps += count

    def end_training(self) -> None:
        """Ends the measurement: from now on, the feed may work for the validation."""
        with self._lock:
            self._evaluate()
            self._stats = self._loader.stats
            self._is_training = False

    def _evaluate(self) -> None:
        """Evaluates the steps that have ended since the last call."""
        steps, self._steps = self._steps, []
        timestamps = self._loader._timestamps
        if not steps or timestamps is None:
            return
        if self._is_training:
            self._stats = self._loader.stats
        rows = timestamps.left()
        rows = rows[(rows[:, 1] > steps[0].begin) & (rows[:, 1] <= steps[-1].end)]
        waits = Intervals(rows).intersection(self._waits(steps, rows[:, 1]))
        self._num_given += len(rows)
        self._num_evaluated += sum(each.num_steps for each in steps)
        self._waited += waits.seconds
        if self._first_wait is None:
            self._first_wait = waits.overlap(*np.array([[steps[0].begin], [steps[0].end]]))
        # Attributes waits to the generator, or to TensorFlow, which makes tensors of its arrays.
        asked, waited, given = np.array(timestamps.hand_overs, np.float64).reshape(-1, 3).T
        arrived = np.append(timestamps.arrived(), np.inf)
        arrived = arrived[np.searchsorted(arrived, given)]
        read = asked + waited
        self._reading += waits.overlap(asked, read)
        self._handing_over += waits.overlap(read, np.where(np.isinf(arrived), given, arrived))

    def _waits(self, steps: Sequence[_Steps], given: NDArray[np.float64]) -> Intervals:
        """Returns when steps waited, if the feed was late all the time.

        The k-th step of the epoch waits for the k-th element if there are as many elements as
        steps; if a later stage regroups them, for the last element that is delivered during the
        step. A step that was given to the device in advance waited until it was given, whichever
        element that was for: Keras on JAX takes the next element first.
        """
        ratio = (self._num_given + len(given)) / self._num_steps
        per_step = round(ratio) if ratio > 0.7 else 0
        ends = np.searchsorted(given, [each.end for each in steps], side="right")
        numbers = self._num_evaluated + np.cumsum([each.num_steps for each in steps])
        waits: list[tuple[float, float]] = []
        for each, number, end in zip(steps, numbers, ends, strict=True):
            if each.given is not None:
                waits.append((each.begin, max(each.begin, each.given)))
                continue
            if not end:
                continue
            of_each = np.arange(number - each.num_steps + 1, number + 1) * per_step
            wanted = of_each - self._num_given if per_step else np.array([end])
            places = np.minimum(wanted, end) - 1
            times = np.where(places < 0, each.begin, given[np.maximum(places, 0)])
            waits += waits_of_steps(each.begin, each.end, times.tolist())
        return Intervals(waits)

    def measurements(self, *, is_first: bool) -> Measurements | None:
        """Returns the measurements of the epoch; None if it had no steps."""
        with self._lock:
            self._evaluate()
        seconds = self._end - self._begin
        if not self._num_steps or seconds <= 0:
            return None
        now, before = astuple(self._stats), astuple(self._stats_before)
        stats = LoaderStats(*(value - old for value, old in zip(now, before, strict=True)))
        both = stats.read_seconds + stats.decode_seconds
        decode_fraction = stats.decode_seconds / both if both > 0 else 0.0
        # The rest of the wait belongs to the stages after the generator.
        reading = min(self._reading, self._waited)
        handing_over = min(self._handing_over, self._waited - reading)
        rest = self._waited - reading - handing_over
        mapping = 0.0
        if self._loader._options.map_fns:
            mapping = rest
        else:
            handing_over += rest
        samples_per_element = stats.num_samples / max(1, stats.num_batches)
        return Measurements(
            num_steps=self._num_steps,
            num_samples=round(self._num_given * samples_per_element),
            seconds=seconds,
            wait=self._waited / seconds,
            read=reading * (1 - decode_fraction) / seconds,
            decode=reading * decode_fraction / seconds,
            map=mapping / seconds,
            hand_over=handing_over / seconds,
            first_wait=(self._first_wait or 0.0) / seconds,
            is_first=is_first,
            stats=stats,
        )
