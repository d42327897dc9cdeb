"""Every sample once an epoch, with its own pixels, label and weight, whatever happens in between.

A few cases here; a long run with

    H5VIDEO_CASES=5000 python -m pytest tests/test_exactly_once.py
"""

import faulthandler
import functools
import json
import os
import signal
import tempfile
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import race_helpers
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from h5video_data import Windows, samplers, testing
from h5video_data.errors import ReadError
from h5video_data.loader import VideoLoader
from h5video_data.reading.byte_sources import LocalFile, RangeError

pytestmark = [pytest.mark.slow, pytest.mark.memory_limit(64)]

CASES = int(os.environ.get("H5VIDEO_CASES", "12"))
SHAPE = testing.SAMPLE_SHAPE
LAYOUTS = {
    "contiguous": {},
    "samples": {"chunks": (1, *SHAPE), "compression": "gzip"},
    "rows": {"chunks": (3, *SHAPE), "compression": "gzip"},
    "bands": {"chunks": (4, 1, 2, 8, 5), "compression": "lzf"},
    "h5py": {"dtype": ">i2", "scaleoffset": 0},
}
MOST_BATCH = 3 * 2 * 5
LENGTHS = (7, 3, 12, 1, 9)  # of recordings
FRAME = testing.FRAME_SHAPE


@functools.cache
def folder():
    return Path(tempfile.mkdtemp(prefix="exactly-once-"))


@functools.cache
def stacked_file(layout, first, count):
    path = folder() / f"{layout}-{first}-{count}.h5"
    options = dict(LAYOUTS[layout])
    if "chunks" in options:
        options["chunks"] = (min(options["chunks"][0], count), *options["chunks"][1:])
    testing.write_video_file(path, num_samples=count, first=first, **options)
    with h5py.File(path, "a") as file:
        file["W"] = weights(np.arange(first, first + count))
        file["id"] = np.arange(first, first + count) // 3
    return str(path)


@functools.cache
def recordings_file(layout):
    path = folder() / f"recordings-{layout}.h5"
    options = {"chunks": (4, *FRAME), "compression": "gzip"} if layout == "rows" else {}
    return testing.write_recordings(path, LENGTHS, frame_shape=FRAME, **options)


def joined(lists):
    return [item for found in lists for item in found]


def weights(numbers):
    return (np.asarray(numbers) * 0.5 + 1).astype(np.float32)


# What the order of an epoch does not depend on: workers, replicas of each, batch size of a replica,
# threads, memory. Drawn before anything is read, whose outcome may depend on timing.
PLANS = st.tuples(
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([None, 0, 20_000]),
)


class Faults:
    """Fails reads of local files while it is armed."""

    armed = False
    read_ranges = LocalFile.read_ranges

    @classmethod
    def install(cls):
        def read_ranges(self, offsets, *arguments):
            if cls.armed and len(offsets):
                raise RangeError(0, 0) from OSError(5, "Input/output error")
            return cls.read_ranges(self, offsets, *arguments)

        LocalFile.read_ranges = read_ranges


class ExactlyOnce(RuleBasedStateMachine):
    """One worker or several, in step, with what they delivered of the epoch."""

    loaders: tuple | list = ()

    @initialize(data=st.data())
    def open(self, data):
        draw = data.draw
        self.kind = draw(st.sampled_from(["stacked", "stacked", "windows", "drawn"]))
        self.layout = draw(st.sampled_from([*LAYOUTS]))
        self.options = {"seed": draw(st.integers(0, 3))}
        if self.kind == "stacked":
            counts = draw(st.lists(st.integers(1, 17), min_size=1, max_size=3))
            firsts = np.cumsum([0, *counts]).tolist()
            files = zip(firsts, counts, strict=False)
            self.path = [stacked_file(self.layout, first, count) for first, count in files]
            total = sum(counts)
            self.options |= {"sample_weight": "W"}
        else:
            self.path = recordings_file(self.layout)
            hop = draw(st.integers(1, 2))
            more = {"per_recording": 2} if self.kind == "drawn" else {"hop": hop}
            windows = Windows(3, 2, bounds="ep_len", **more)
            self.options |= {"windows": windows, "x": "pixels", "y": "action"}
            self.windows = [(i, r) for i, n in enumerate(LENGTHS) for r in range(0, n - 2, hop)]
            num_drawn = 2 * sum(n > 2 for n in LENGTHS)
            total = num_drawn if self.kind == "drawn" else len(self.windows)
        chosen = None
        if draw(st.booleans()):
            chosen = draw(st.lists(st.integers(0, total - 1), min_size=1, unique=True))
            self.options["indices"] = chosen
        if draw(st.integers(0, 3)) == 0 and (total if chosen is None else len(chosen)) > 12:
            by = [None, "id"] if self.kind == "stacked" else [None]
            self.options |= {
                "subset": draw(st.sampled_from(["training", "validation"])),
                "validation_split": 0.4,
                "split_by": draw(st.sampled_from(by)),
            }
        self.options["shuffle"] = draw(st.sampled_from([True, True, "blocks", False]))
        self.options["drop_remainder"] = False
        self.orders, self.loaders, self.iterators = {}, [], None
        self._open(draw(PLANS))
        self.samples = self.loaders[0].sample_indices.tolist()
        if chosen is not None and "subset" not in self.options:
            assert sorted(self.samples) == sorted(chosen)
        if chosen is None and "subset" not in self.options:
            assert sorted(self.samples) == list(range(total))
        if self.options["shuffle"] is True and draw(st.booleans()):
            self.options["shuffle"] = samplers.ShuffleSampler(len(self.samples), seed=7)
            self._open(draw(PLANS))
        if len(self.samples) >= MOST_BATCH and draw(st.integers(0, 2)) == 0:
            self.options["drop_remainder"] = True
            self._open(draw(PLANS))
        self.epoch = 0
        self._begin(0, [])

    def _open(self, plan):
        self._close()
        self.num_workers, self.replicas, per_replica, num_threads, memory = plan
        total = self.num_workers * self.replicas
        self.batch_size = total * per_replica
        options = {
            **self.options,
            "batch_size": self.batch_size,
            "num_threads": num_threads,
            "read_ahead_bytes": memory,
        }
        for worker in range(self.num_workers):
            if total > 1:
                options["input_context"] = SimpleNamespace(
                    num_replicas_in_sync=total,
                    num_input_pipelines=self.num_workers,
                    input_pipeline_id=worker,
                )
            self.loaders.append(VideoLoader(self.path, **options))

    def _begin(self, used, delivered):
        """An epoch, or the rest of one, that has not been begun."""
        self.iterators = None
        # What came before the loaders were opened, and what they delivered, by global batches.
        self.before, self.delivered, self.used = list(delivered), [], used

    def _close(self):
        self.iterators = None
        for loader in self.loaders:
            loader.close()
        self.loaders = []

    def _check(self, numbers, arrays, epoch):
        if self.kind == "stacked":
            x, y, w = arrays
            np.testing.assert_array_equal(x, testing.sample_values(numbers, SHAPE))
            np.testing.assert_array_equal(y, testing.labels(numbers, 4))
            np.testing.assert_array_equal(w, weights(numbers))
            return
        if self.kind == "windows":
            places = [self.windows[number] for number in numbers]
        else:
            rows = [p.row for p in self.loaders[0].describe_samples(numbers, epoch=epoch)]
            starts = np.cumsum([0, *LENGTHS])
            recordings = np.searchsorted(starts, rows, side="right") - 1
            places = [(i, row - starts[i]) for i, row in zip(recordings, rows, strict=True)]
            long = [i for i, n in enumerate(LENGTHS) if n > 2]
            assert [i for i, _ in places] == [long[number // 2] for number in numbers]
        recordings, rows = np.array(places).T[..., np.newaxis]
        x, y = arrays
        frames = testing.recording_values(recordings, rows + np.arange(3), FRAME)
        np.testing.assert_array_equal(x, frames)
        actions = testing.recording_values(recordings, rows + np.arange(2), (4,), np.float32)
        np.testing.assert_array_equal(y, actions)

    def _step(self):
        """Takes a global batch from all workers; False: the epoch has ended, for all of them."""
        if self.iterators is None:
            self.iterators = [loader.batches() for loader in self.loaders]
        found = []
        for batches in self.iterators:
            for _ in range(self.replicas):
                element = next(batches, None)
                found.append(element)
        if found[0] is None:
            assert all(element is None for element in found)
            return False
        assert all(element is not None for element in found)
        for epoch, numbers, arrays in found:
            assert epoch == self.epoch
            self._check(numbers, arrays, epoch)
        self.delivered.append([numbers.tolist() for _, numbers, _ in found])
        self.used += self.batch_size
        return True

    @rule(count=st.integers(1, 5))
    def step(self, count):
        for _ in range(count):
            if not self._step():
                self._ended()
                break

    @rule()
    def finish(self):
        while self._step():
            pass
        self._ended()

    def _ended(self):
        replicas = self.num_workers * self.replicas
        rest = len(self.samples) - len(self.before)
        found = [joined(parts) for parts in self.delivered]
        is_whole = self.options["drop_remainder"] or not rest % self.batch_size
        if found and not is_whole and rest % self.batch_size < replicas:
            found[-1] = [*dict.fromkeys(found[-1])]  # every replica has a sample
        numbers = [*self.before, *joined(found)]
        num_dropped = rest % self.batch_size if self.options["drop_remainder"] else 0
        assert len(numbers) == len(self.samples) - num_dropped
        assert len({*numbers}) == len(numbers)
        assert {*numbers} <= {*self.samples}
        if not num_dropped:
            assert self.orders.setdefault(self.epoch, numbers) == numbers
        if self.options["shuffle"] is False:
            assert numbers == self.samples[: len(numbers)]
        self.epoch += 1
        self._begin(0, [])

    @precondition(lambda self: self.iterators is not None)
    @rule()
    def drop(self):
        self.epoch += 1
        self._begin(0, [])

    @rule(epoch=st.integers(0, 4))
    def set_epoch(self, epoch):
        for loader in self.loaders:
            loader.set_epoch(epoch)
        self.epoch = epoch
        self._begin(0, [])

    def _state(self):
        """A state after what was delivered, and that; None: a whole epoch was."""
        used = min(self.used, len(self.samples))
        if not self._num_left(used):
            return None
        found = self.loaders[0].state_at(epoch=self.epoch, samples=used)
        numbers = [*self.before, *joined(map(joined, self.delivered))]
        assert len(numbers) == used
        return json.loads(json.dumps(found)), used, numbers

    def _num_left(self, used):
        """Samples of the epoch that are still to come."""
        left = len(self.samples) - used
        return left - (left % self.batch_size if self.options["drop_remainder"] else 0)

    def _resume(self, found, plan):
        state, used, numbers = found
        if plan is not None:
            self._open(plan)
        for loader in self.loaders:
            loader.load_state_dict(state)
        if self._num_left(used):
            self._begin(used, numbers)
        else:  # of larger batches, none is left
            self.epoch += 1
            self._begin(0, [])

    @rule(plan=st.none() | PLANS)
    def resume(self, plan):
        found = self._state()
        if found is None:
            self._reopen(plan or (1, 1, 1, 1, None))
        else:
            self._resume(found, plan)

    def _reopen(self, plan):
        """Opens loaders at the beginning of the epoch, which is begun anew."""
        self._open(plan)
        self.set_epoch(self.epoch)

    @rule(plan=PLANS)
    def error(self, plan):
        Faults.armed = True
        try:
            while self._step():
                pass
        except ReadError:
            Faults.armed = False
            found = self._state()
        else:  # h5py has read it, or it had been read ahead; as the next epoch may be, by now
            self._ended()
            found = None
        finally:
            Faults.armed = False
        if found is None:
            self._reopen(plan)
        else:
            self._resume(found, plan)

    @precondition(lambda self: self.num_workers == 1 and self.replicas == 1)
    @rule(plan=PLANS, count=st.integers(1, 3))
    def killed(self, plan, count):
        """A process does some steps and is killed; another one goes on from its last state."""
        start = self._state()
        if start is None:
            self._reopen(plan)
            return
        _, used, numbers = start
        read_end, write_end = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                faulthandler.dump_traceback_later(60, exit=True)
                os.close(read_end)
                self._work_and_die(*start[:2], count, write_end)
            finally:
                os._exit(1)
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            lines = [json.loads(line) for line in pipe]
        _, status = os.waitpid(pid, 0)
        assert status in (0, signal.SIGKILL)
        is_dropped = self.options["drop_remainder"] and used + self.batch_size > len(self.samples)
        assert lines or is_dropped
        for after, used_then, found in lines:
            numbers = [*numbers, *found]
            if after is None:
                assert sorted(numbers) == sorted(self.samples)
                self.epoch += 1
                self._reopen(plan)
                return
            start = after, used_then, numbers
        self._resume(start, plan)

    def _work_and_die(self, state, used, count, fd):
        (loader,) = self.loaders
        loader.load_state_dict(state)
        with os.fdopen(fd, "w", buffering=1) as pipe:
            for step, (epoch, found, arrays) in enumerate(loader.batches()):
                self._check(found, arrays, epoch)
                used = min(used + self.batch_size, len(self.samples))
                after = None
                if used < len(self.samples):
                    after = loader.state_at(epoch=epoch, samples=used)
                print(json.dumps([after, used, found.tolist()]), file=pipe)
                if step + 1 == count:
                    os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)

    def teardown(self):
        Faults.armed = False
        self._close()


@pytest.fixture(autouse=True, scope="module")
def races():
    restore = race_helpers.install()
    Faults.install()
    yield
    LocalFile.read_ranges = Faults.read_ranges
    restore()


ExactlyOnce.TestCase.settings = settings(
    max_examples=CASES, stateful_step_count=10, derandomize="H5VIDEO_CASES" not in os.environ
)
TestExactlyOnce = ExactlyOnce.TestCase
TestExactlyOnce.pytestmark = [pytest.mark.timeout(0 if CASES > 100 else 600)]
