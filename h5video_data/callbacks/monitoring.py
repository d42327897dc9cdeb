"""`FeedMonitor`: how long a training waited for its data, and for which stage of the feed."""

from __future__ import annotations

import bisect
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5video_data.loader import VideoLoader

from .advice import Figures, verdict
from .base import Callback, loader_of
from .waiting import Windows, common, waits_of_steps

# Steps after which to read the timestamps, of which 4096 are kept.
LOOK_EVERY = 500


@dataclass(frozen=True)
class EpochReport:
    """What an epoch of a training cost. Shares are of its time, from 0 to 1."""

    epoch: int
    num_steps: int
    seconds: float
    """From its beginning to the end of its last step: without the validation."""
    steps_per_second: float
    samples_per_second: float
    wait: float
    """Share of the time that the training waited for data. It is the sum of those that follow."""
    read: float
    """Share that it waited for reading."""
    decode: float
    """Share that it waited for decoding."""
    map: float
    """Share that it waited for the map functions."""
    hand_over: float
    """Share that it waited for what the feed does in Python, and for TensorFlow to take over."""
    verdict: str
    """One line for people: where the time goes, and what to do next."""

    def logs(self) -> dict[str, float]:
        """What is added to the logs of the epoch."""
        return {
            "feed_steps_per_second": self.steps_per_second,
            "feed_samples_per_second": self.samples_per_second,
            "feed_wait": self.wait,
            "feed_read": self.read,
            "feed_decode": self.decode,
            "feed_map": self.map,
            "feed_hand_over": self.hand_over,
        }


class FeedMonitor(Callback):
    """A Keras callback that tells after each epoch how long the training waited for its data.

        monitor = FeedMonitor(train)
        model.fit(train, epochs=10, shuffle=False, callbacks=[monitor, CSVLogger("log.csv")])

    It prints one line an epoch, with what to do next, and adds to the epoch's logs, for the
    callbacks that come after it in the list: `feed_steps_per_second`, `feed_samples_per_second`,
    `feed_wait`, the share of the epoch's time that the training waited, and what it waited for, of
    which that is the sum: `feed_read`, `feed_decode`, `feed_map` and `feed_hand_over`. The
    validation does not count.

    The k-th step of an epoch waits from its beginning until the feed gives its k-th batch, as far
    as the feed was asked for one in that time. So the training may run on the dataset itself, or on
    what becomes of it by `repeat`, `take`, `prefetch`, `batch` or a distribution strategy. What
    comes after the feed's last stage, such as a copy to a device, or a slow `map` there, is not
    seen; nor is a `cache`, from which the batches then come.

    It works with Keras 3 and with tf_keras. tf_keras waits for the results of each step if there is
    such a callback, as it does when it shows a progress bar. Keras on JAX goes on without waiting,
    with this callback too, which counts a step as ended when the accelerator is done with it.

    Args:
        feed: The dataset that `video_dataset_from_hdf5` returned, or its `VideoLoader`.
        verbose: 1: print a line after each epoch. 0: print nothing.

    Attributes:
        history: An `EpochReport` for each epoch so far.
    """

    # tf_keras: without logs as tensors, each step ends when its results are there.
    _supports_tf_logs = False

    # Keras 3 on JAX: it does not wait for the results of each step, and has other threads tell.
    async_safe = True

    def __init__(self, feed: Any, *, verbose: int = 1) -> None:
        self.verbose = verbose
        self.history: list[EpochReport] = []
        self._loader = loader_of(feed)
        self._is_first = True
        self._meter: _EpochMeter | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """A new training begins."""
        del logs
        self._is_first = True
        self._meter = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begins to measure."""
        del epoch, logs
        self._meter = _EpochMeter(self._loader)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Notes the number of the step."""
        del logs
        if self._meter is not None:
            self._meter.begin_steps(batch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notes the time."""
        del logs
        meter = self._meter
        if meter is not None:
            steps = (self.params or {}).get("steps")
            # Keras 3 counts to the end of the last steps_per_execution, Keras 2 to the last step.
            meter.end_steps(batch if steps is None else min(batch, steps - 1))

    def on_test_begin(self, logs: Any = None) -> None:
        """Looks at what the training cost before the validation costs something."""
        del logs
        if self._meter is not None:
            self._meter.end_training()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds to the logs and to the history, and prints the verdict."""
        meter, self._meter = self._meter, None
        figures = None if meter is None else meter.figures(is_first=self._is_first)
        if figures is None:
            return
        self._is_first = False
        report = _report(epoch, figures, self._loader)
        self.history.append(report)
        if logs is not None:
            logs.update(report.logs())
        if self.verbose:
            # The progress bar has not ended its line.
            start = "\n" if (self.params or {}).get("verbose") in (1, "auto") else ""
            print(f"{start}Epoch {epoch + 1}: {report.verdict}", flush=True)


def _report(epoch: int, figures: Figures, loader: VideoLoader) -> EpochReport:
    return EpochReport(
        epoch=epoch,
        num_steps=figures.num_steps,
        seconds=figures.seconds,
        steps_per_second=figures.num_steps / figures.seconds,
        samples_per_second=figures.num_samples / figures.seconds,
        wait=figures.wait,
        read=figures.read,
        decode=figures.decode,
        map=figures.map,
        hand_over=figures.hand_over,
        verdict=verdict(figures, loader),
    )


class _Steps(NamedTuple):
    """Steps that were run together."""

    begin: float
    """When those before them had ended."""
    end: float
    num_steps: int
    given: float | None
    """When the device had been given it, if that was in advance."""


class _EpochMeter:
    """Measures one epoch of a training.

    Steps begin in one thread; they may end in others, in another order, while later ones begin.

    Args:
        loader: The feed.
    """

    def __init__(self, loader: VideoLoader) -> None:
        self._loader = loader
        self._lock = threading.Lock()
        self._begun: deque[tuple[int, float]] = deque()
        """The first one of steps that are run together and do not count as ended, and when."""
        self._ended: list[tuple[int, float]] = []
        """The last one of those that have ended, and when."""
        self._thread = threading.get_ident()
        self._begin = self._end = time.time()
        self._steps: list[_Steps] = []
        """Those that were not looked at yet."""
        self._num_steps = 0
        self._is_training = True
        self._num_looked = 0
        """Steps that were looked at."""
        self._num_given = 0
        """Elements that the feed gave during them."""
        self._stats = self._stats_before = loader.stats
        self._waited = self._reading = self._handing_over = 0.0
        self._first_wait: float | None = None

    def begin_steps(self, first: int) -> None:
        """A step begins, or several that are run together: the number of the first one."""
        self._begun.append((first, time.time()))

    def end_steps(self, last: int) -> None:
        """They have ended: the number of the last one."""
        now = time.time()
        with self._lock:
            bisect.insort(self._ended, (last, now))
            self._count_ended(in_advance=threading.get_ident() != self._thread)
            if self._num_steps - self._num_looked >= LOOK_EVERY:
                self._look()

    def _count_ended(self, *, in_advance: bool) -> None:
        """Takes note of those that have ended, and all before them."""
        while self._ended and self._begun:
            last, now = self._ended[0]
            if len(self._begun) > 1 and last >= self._begun[1][0]:
                return  # the end of those before is still on its way
            del self._ended[0]
            first, _ = self._begun.popleft()
            count = max(1, last - first + 1)
            begin, self._end = self._end, max(self._end, now)
            given = None
            if in_advance and count == 1:
                # The next one begins as soon as this one was given to the device.
                given = min(self._begun[0][1], self._end) if self._begun else self._end
            self._steps.append(_Steps(begin, self._end, count, given))
            self._num_steps += count

    def end_training(self) -> None:
        """The validation begins: what the feed does from now on is not for the training."""
        with self._lock:
            self._look()
            self._stats = self._loader.stats
            self._is_training = False

    def _look(self) -> None:
        """Looks at the steps that have ended since the last time."""
        steps, self._steps = self._steps, []
        timestamps = self._loader._timestamps
        if not steps or timestamps is None:
            return
        if self._is_training:
            self._stats = self._loader.stats
        rows = timestamps.left()
        rows = rows[(rows[:, 1] > steps[0].begin) & (rows[:, 1] <= steps[-1].end)]
        waits = common(Windows(rows), self._waits(steps, rows[:, 1]))
        self._num_given += len(rows)
        self._num_looked += sum(each.num_steps for each in steps)
        self._waited += waits.seconds
        if self._first_wait is None:
            self._first_wait = waits.overlap(*np.array([[steps[0].begin], [steps[0].end]]))
        # What the generator did meanwhile, and TensorFlow, which makes tensors of what it gives.
        asked, waited, given = np.array(timestamps.hand_overs, np.float64).reshape(-1, 3).T
        arrived = np.append(timestamps.arrived(), np.inf)
        arrived = arrived[np.searchsorted(arrived, given)]
        read = asked + waited
        self._reading += waits.overlap(asked, read)
        self._handing_over += waits.overlap(read, np.where(np.isinf(arrived), given, arrived))

    def _waits(self, steps: Sequence[_Steps], given: NDArray[np.float64]) -> Windows:
        """When steps waited, if the feed was behind all the time.

        The k-th step of the epoch waits for the k-th element, if there are as many; or, when a
        later stage makes other elements of them, for the last one that is given during it. A step
        that the device was given in advance waited until then, whichever element that was for:
        Keras on JAX takes the next one first.
        """
        ratio = (self._num_given + len(given)) / self._num_steps
        per_step = round(ratio) if ratio > 0.7 else 0
        ends = np.searchsorted(given, [each.end for each in steps], side="right")
        numbers = self._num_looked + np.cumsum([each.num_steps for each in steps])
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
            left = np.where(places < 0, each.begin, given[np.maximum(places, 0)])
            waits += waits_of_steps(each.begin, each.end, left.tolist())
        return Windows(waits)

    def figures(self, *, is_first: bool) -> Figures | None:
        """What the epoch cost; None if it had no steps.

        Args:
            is_first: Whether it is the first epoch of the training.
        """
        with self._lock:
            self._look()
        seconds = self._end - self._begin
        if not self._num_steps or seconds <= 0:
            return None
        before, after = self._stats_before, self._stats
        read_seconds = after.read_seconds - before.read_seconds
        decode_seconds = after.decode_seconds - before.decode_seconds
        both = read_seconds + decode_seconds
        decode_share = decode_seconds / both if both > 0 else 0.0
        # What is neither was on its way through the stages after the generator.
        reading = min(self._reading, self._waited)
        handing_over = min(self._handing_over, self._waited - reading)
        rest = self._waited - reading - handing_over
        mapping, handing_over = (
            (rest, handing_over) if self._loader._options.map_fns else (0.0, handing_over + rest)
        )
        num_batches = max(1, after.num_batches - before.num_batches)
        samples_per_element = (after.num_samples - before.num_samples) / num_batches
        return Figures(
            num_steps=self._num_steps,
            num_samples=round(self._num_given * samples_per_element),
            seconds=seconds,
            wait=self._waited / seconds,
            read=reading * (1 - decode_share) / seconds,
            decode=reading * decode_share / seconds,
            map=mapping / seconds,
            hand_over=handing_over / seconds,
            first_wait=(self._first_wait or 0.0) / seconds,
            is_first=is_first,
            read_bytes=after.read_bytes - before.read_bytes,
            num_reads=after.num_reads - before.num_reads,
            read_seconds=read_seconds,
            decoded_bytes=after.delivered_bytes - before.delivered_bytes,
        )
