"""Windows of recordings, by a second kind of index: what reads rows knows nothing of samples."""

import dataclasses
from contextlib import closing

import h5py
import numpy as np
import pytest

from h5video_data.opening import open_video_set
from h5video_data.reading.batch import EpochPlan
from h5video_data.reading.batch_reader import BatchReader
from h5video_data.reading.memory_budget import split_budget
from h5video_data.sampling.clips import Clip
from h5video_data.sampling.sample_index import SampleIndex
from h5video_data.sampling.window_index import Recordings
from h5video_data.sampling.windows import Windows

FRAME = (6, 8, 3)
LAYOUTS = {
    "contiguous": ("direct", {}),
    "a frame a chunk": ("direct", {"chunks": (1, *FRAME), "compression": "lzf"}),
    "many frames a chunk, plain": ("direct", {"chunks": (7, *FRAME)}),
    "many frames a chunk": ("chunks", {"chunks": (7, *FRAME), "compression": "gzip"}),
    "cut frames": ("chunks", {"chunks": (5, 4, 8, 2), "compression": "lzf"}),
    "by h5py": ("h5py", {"chunks": (4, *FRAME), "scaleoffset": 0}),
}
LENGTHS = (40, 23, 9)


def write_recordings(folder, options, lengths=LENGTHS):
    rng = np.random.default_rng(0)
    paths = []
    for number, length in enumerate(lengths):
        paths.append(folder / f"{number}.h5")
        with h5py.File(paths[-1], "w") as file:
            frames = rng.integers(0, 100, (length, *FRAME), np.uint8)
            file.create_dataset("frames", data=frames, dtype=np.uint8, **options)
            file["actions"] = rng.standard_normal((length, 5), np.float32)
            file["time"] = np.arange(length) + 1000 * number
    return [str(path) for path in paths]


def windows(lengths, offsets):
    """Every window of each recording that fits, of the frames at `offsets` from its anchor."""
    lengths = np.array(lengths)
    numbers, zeros = np.arange(len(lengths)), np.zeros_like(lengths)
    found = Windows(tuple(offsets)).of_recordings(Recordings(numbers, zeros, lengths), lengths)
    return found.anchors.with_offsets(np.asarray(offsets))


def windowed(paths, names, index, **options):
    opened = open_video_set(paths, {name: name for name in names}, None, **options)
    components = tuple(dataclasses.replace(item, index=index) for item in opened.components)
    return dataclasses.replace(opened, components=components, counts=np.array(index.num_rows))


def batches(video_set, plan, *, read_ahead_bytes=None, skips_failed=False, num_threads=3):
    size = int(np.diff(plan.stops, prepend=0).max())
    budget = split_budget(video_set, size, len(plan.stops), read_ahead_bytes, num_threads)
    with closing(
        BatchReader(
            video_set,
            num_threads=num_threads,
            bundle_size=size * plan.batches_per_bundle,
            max_kept=3,
            cached_items=budget.cached_items,
            tasks_per_bundle=2,
            skips_failed=skips_failed,
        )
    ) as reader:
        epoch = reader.epoch(plan)
        epoch.fill(3)
        while (batch := epoch.take()) is not None:
            batch.wait()
            yield batch.without_failed()
            epoch.fill(3)


def plan_of(index, batch_size, first_frames=None, seed=0):
    order = np.random.default_rng(seed).permutation(index.num_samples)
    stops = np.append(np.arange(batch_size, len(order), batch_size), len(order))
    return EpochPlan(0, order, stops, 2, first_frames)


@pytest.mark.memory_limit(16)
@pytest.mark.parametrize("memory", [0, 20_000, 10**7], ids=["none", "short", "ample"])
@pytest.mark.parametrize("offsets", [range(4), [0], [2, 0, 9]], ids=str)
@pytest.mark.parametrize(("kind", "options"), LAYOUTS.values(), ids=LAYOUTS)
def test_windows_are_what_h5py_gives(tmp_path, kind, options, offsets, memory):
    paths = write_recordings(tmp_path, options)
    index = windows(LENGTHS, offsets)
    video_set = windowed(paths, ("frames", "actions", "time"), index)
    assert [item.accesses[0].kind for item in video_set.components] == [kind, "direct", "memory"]
    plan = plan_of(index, 4)
    found = list(batches(video_set, plan, read_ahead_bytes=memory))
    np.testing.assert_array_equal(np.concatenate([batch.indices for batch in found]), plan.order)
    for number, name in enumerate(("frames", "actions", "time")):
        stored = []
        for path in paths:
            with h5py.File(path) as file:
                stored.append(file[name][:])
        _, parts, anchors = index.anchors(plan.order)
        expected = [
            stored[part][anchor + np.asarray(offsets)]
            for part, anchor in zip(parts, anchors, strict=True)
        ]
        arrays = np.concatenate([batch.arrays[number] for batch in found])
        np.testing.assert_array_equal(arrays, expected)


@pytest.mark.parametrize("pad", ["edge", "zeros"])
@pytest.mark.parametrize(("kind", "options"), LAYOUTS.values(), ids=LAYOUTS)
def test_windows_that_reach_beyond_their_recording(tmp_path, kind, options, pad):
    """Two recordings in each file; where windows begin is drawn."""
    del kind
    paths = write_recordings(tmp_path, options)
    spec = Windows(range(-2, 4), pad=pad, hop=2, per_recording=7)
    parts = np.repeat(np.arange(3), 2)
    starts, stops = np.array([0, 15, 0, 8, 0, 4]), np.array([15, 40, 8, 23, 4, 9])
    made = spec.of_recordings(Recordings(parts, starts, stops - starts), np.array(LENGTHS))
    index, offsets = made.anchors, spec.offsets("x")
    names = ("frames", "actions", "time")
    video_set = windowed(paths, names, index.with_offsets(offsets))
    plan = plan_of(index, 4)
    shifts = made.shifts(0, 0, plan.order)
    assert len(set(shifts.tolist())) > 5
    plan = dataclasses.replace(plan, shifts=shifts)
    found = list(batches(video_set, plan))
    for number, name in enumerate(names):
        arrays = np.concatenate([batch.arrays[number] for batch in found])
        for array, sample, shift in zip(arrays, plan.order, shifts, strict=True):
            recording = sample // 7
            with h5py.File(paths[parts[recording]]) as file:
                stored = file[name][starts[recording] : stops[recording]]
            rows = shift + offsets
            expected = stored[np.clip(rows, 0, len(stored) - 1)]
            if pad == "zeros":
                expected[(rows < 0) | (rows >= len(stored))] = 0
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("layout", ["contiguous", "many frames a chunk", "by h5py"])
def test_clips_of_windows(tmp_path, layout):
    """A clip picks inside rows, whatever a sample is made of."""
    paths = write_recordings(tmp_path, LAYOUTS[layout][1])
    index = windows(LENGTHS, range(3))
    video_set = windowed(paths, ("frames",), index, clip=Clip(2, stride=3, axis=0))
    firsts = np.arange(index.num_samples) % 3
    plan = plan_of(index, 5, firsts)
    arrays = np.concatenate([batch.arrays[0] for batch in batches(video_set, plan)])
    for array, sample, first in zip(arrays, plan.order, firsts, strict=True):
        _, (part,), (row,) = index.anchors(np.array([sample]))
        with h5py.File(paths[part]) as file:
            expected = file["frames"][row : row + 3][:, [first, first + 3]]
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("chunk", [1, 7])
def test_windows_over_damaged_rows_are_left_out(tmp_path, chunk):
    options = {"chunks": (chunk, *FRAME), "compression": "gzip"}
    paths = write_recordings(tmp_path, options, (30,))
    bad = 14 // chunk * chunk
    with h5py.File(paths[0], "a") as file:
        file["frames"].id.write_direct_chunk((bad, 0, 0, 0), b"rubbish", 0)
    index = windows((30,), range(4))
    video_set = windowed(paths, ("frames",), index)
    plan = plan_of(index, 4)
    found = list(batches(video_set, plan, skips_failed=True))
    kept = np.concatenate([batch.indices for batch in found])
    is_good = (plan.order + 3 < bad) | (plan.order >= bad + chunk)
    assert 0 < is_good.sum() < len(plan.order)
    np.testing.assert_array_equal(kept, plan.order[is_good])
    with h5py.File(paths[0]) as file:
        arrays = np.concatenate([batch.arrays[0] for batch in found])
        for array, sample in zip(arrays, kept, strict=True):
            np.testing.assert_array_equal(array, file["frames"][sample : sample + 4])


def test_stacked_samples_are_the_rows_in_use():
    index = SampleIndex.stacked(np.array([3, 0, 2]))
    assert (index.num_samples, index.rows_per_sample) == (5, 1)
    parts, rows = index.rows(np.array([4, 0, 2, 3, 4]))
    assert parts.tolist() == [2, 0, 0, 2, 2]
    assert rows.tolist() == [1, 0, 2, 0, 1]


def test_rows_of_windows_follow_each_other():
    parts, rows = windows((5, 4), [0, 2]).rows(np.array([3, 0]))
    assert parts.tolist() == [1, 1, 0, 0]
    assert rows.tolist() == [0, 2, 0, 2]


def test_the_only_row_of_a_sample_may_be_beyond_its_recording():
    index = SampleIndex.stacked(np.array([3, 4]))
    assert index.is_beyond(np.arange(7)).tolist() == [[False]] * 7
    limits = (np.array([1, 0]), np.array([3, 3]))
    beyond = dataclasses.replace(index, limits=limits).is_beyond(np.arange(7))
    assert beyond.dtype == index.is_beyond(np.arange(7)).dtype == np.bool_
    assert beyond.ravel().tolist() == [True] + [False] * 5 + [True]
    assert beyond.shape == (7, 1)
