"""Which rows the windows of recordings are, compared with a loop over all anchors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5video_data.errors import ArgumentError
from h5video_data.sampling.window_index import Recordings
from h5video_data.sampling.windows import MAX_FRAMES, MAX_OFFSET, Windows


def make(windows, recordings, num_rows):
    """The index of windows of recordings: triples of part, first row and number of rows."""
    columns = np.array(recordings, np.int64).reshape(-1, 3).T
    return windows.of_recordings(Recordings(*columns), np.array(num_rows))


def expected(windows, recordings, offsets):
    """(part, rows, which are beyond) of each window, by going through all anchors."""
    lowest, highest = windows.reach
    found = []
    for part, first, length in recordings:
        anchors = (
            range(0, length, windows.hop) if windows.pad else range(-lowest, length, windows.hop)
        )
        for anchor in anchors:
            if windows.pad is None and anchor + highest >= length:
                continue
            rows = anchor + np.asarray(offsets)
            beyond = (rows < 0) | (rows >= length)
            found.append((part, (first + np.clip(rows, 0, length - 1)).tolist(), beyond.tolist()))
    return found


def given_rows(index, offsets, samples=None, shifts=None):
    index = index.with_offsets(np.asarray(offsets))
    samples = np.arange(index.num_samples) if samples is None else samples
    parts, rows = index.rows(samples, shifts)
    n = index.rows_per_sample
    beyond = index.is_beyond(samples, shifts)
    return list(
        zip(parts[::n].tolist(), rows.reshape(-1, n).tolist(), beyond.tolist(), strict=True)
    )


distances = st.lists(st.integers(-6, 9), min_size=1, max_size=5)
sets = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 14)), min_size=1, max_size=6)


@given(distances, distances, sets, st.integers(1, 5), st.sampled_from([None, "edge", "zeros"]))
def test_every_window_of_every_recording(x, y, lengths, hop, pad):
    windows = Windows(x, y, hop=hop, pad=pad)
    recordings, num_rows = [], [0, 0, 0]
    for part, length in lengths:
        recordings.append((part, num_rows[part], length))
        num_rows[part] += length
    found = make(windows, recordings, num_rows)
    index, runs = found.anchors, found.run_recordings
    assert found.choices is None
    assert found.shifts(0, 0, np.arange(index.num_samples)) is None
    for side, offsets in (("x", x), ("y", y)):
        assert windows.offsets(side).tolist() == offsets
        assert given_rows(index, offsets) == expected(windows, recordings, offsets)
    assert [recordings[run][0] for run in runs] == index.run_parts.tolist()
    windowed = set(found.recordings_of(np.arange(index.num_samples)).tolist())
    assert found.skipped().tolist() == sorted(set(range(len(recordings))) - windowed)


def test_a_number_of_frames():
    windows = Windows(4, stride=5)
    assert windows.offsets("x").tolist() == [0, 5, 10, 15]
    assert windows.offsets("y") is None
    assert windows.reach == (0, 15)
    index = make(windows, [(0, 0, 17)], [17]).anchors
    assert given_rows(index, windows.offsets("x")) == [
        (0, [0, 5, 10, 15], [False] * 4),
        (0, [1, 6, 11, 16], [False] * 4),
    ]


def test_the_anchor_is_a_row_of_the_recording():
    index = make(Windows(range(3, 5)), [(0, 0, 6)], [6]).anchors
    assert [rows for _, rows, _ in given_rows(index, [3, 4])] == [[3, 4], [4, 5]]
    index = make(Windows(range(-4, -2)), [(0, 0, 6)], [6]).anchors
    assert [rows for _, rows, _ in given_rows(index, [-4, -3])] == [[0, 1], [1, 2]]


def test_keys_of_their_own():
    windows = Windows({"image": 2, "state": range(-1, 1)}, {"action": 3}, stride=2)
    assert windows.offsets("x", "image").tolist() == [0, 2]
    assert windows.offsets("x", "state").tolist() == [-1, 0]
    assert windows.offsets("x", "goal") is None
    assert windows.offsets("y", "action").tolist() == [0, 2, 4]
    assert windows.reach == (-1, 4)


def test_a_recording_that_is_too_short_has_no_window():
    found = make(Windows(5), [(0, 0, 4), (0, 4, 5), (0, 9, 0)], [9])
    assert found.run_recordings.tolist() == [1]
    assert found.skipped().tolist() == [0, 2]
    assert given_rows(found.anchors, range(5)) == [(0, [4, 5, 6, 7, 8], [False] * 5)]


@pytest.mark.parametrize(
    ("position", "number", "anchors"),
    [
        ("start", 1, [0, 20]),
        ("center", 1, [4, 22]),
        ("spread", 1, [4, 22]),
        ("spread", 2, [0, 8, 20, 24]),
        ("spread", 3, [0, 4, 8, 20, 22, 24]),
        ("spread", 6, [0, 1, 3, 4, 6, 8, 20, 20, 21, 22, 23, 24]),
    ],
)
def test_some_windows_of_each_recording(position, number, anchors):
    windows = Windows(2, per_recording=number, position=position)
    found = make(windows, [(0, 0, 10), (0, 20, 6)], [26])
    assert found.choices is None
    assert [rows[0] for _, rows, _ in given_rows(found.anchors, range(2))] == anchors
    assert found.recordings_of(np.arange(2 * number)).tolist() == [0] * number + [1] * number


@pytest.mark.parametrize(("position", "number"), [("start", 1), ("center", 1), ("spread", 3)])
def test_windows_begin_at_whole_rows(position, number):
    windows = Windows(2, per_recording=number, position=position)
    rows = make(windows, [(0, 0, 11)], [11]).anchors.run_rows
    assert rows.dtype == np.int64
    assert rows.tolist() == {"start": [0], "center": [4], "spread": [0, 4, 9]}[position]


def test_windows_that_are_drawn():
    windows = Windows(3, hop=2, per_recording=4)
    recordings = [(0, 0, 30), (1, 5, 3), (1, 8, 9)]
    found = make(windows, recordings, [30, 17])
    index = found.anchors
    assert index.num_samples == 12
    samples = np.random.default_rng(0).permutation(12)
    drawn = set()
    for epoch in range(200):
        shifts = found.shifts(7, epoch, samples)
        for sample, (part, rows, _) in zip(
            samples.tolist(), given_rows(index, range(3), samples, shifts), strict=True
        ):
            recording = sample // 4
            assert part == recordings[recording][0]
            drawn.add((recording, rows[0]))
            assert rows == [rows[0], rows[0] + 1, rows[0] + 2]
    assert drawn == {
        *((0, row) for row in range(0, 28, 2)), (1, 5), *((2, row) for row in range(8, 16, 2)),
    }  # fmt: skip
    assert found.recordings_of(np.array([0, 3, 4, 11])).tolist() == [0, 0, 1, 2]
    again = found.shifts(7, 3, samples, np.zeros(12, np.int64))
    assert again.tolist() == found.shifts(7, 3, samples).tolist()
    assert again.tolist() != found.shifts(7, 3, samples, np.ones(12, np.int64)).tolist()


def test_the_windows_of_an_epoch_stay_what_they_are():
    # A saved position is one among these, also for a later version.
    found = make(Windows(3, hop=2, per_recording=4), [(0, 0, 30), (1, 5, 3), (1, 8, 9)], [30, 17])
    assert found.shifts(7, 3, np.arange(12)).tolist() == [18, 14, 18, 12, 0, 0, 0, 0, 4, 4, 6, 0]


def test_a_label_of_the_recording_does_not_move():
    windows = Windows(3, per_recording=2)
    labels = make(windows, [(0, 0, 9), (0, 9, 9)], [18]).by_recording()
    samples = np.arange(4)
    assert labels.rows(samples, np.array([5, 3, 1, 2]))[1].tolist() == [0, 0, 1, 1]


def test_labels_of_recordings_are_in_one_part():
    # Also where their frames are in several, and where windows reach beyond a recording.
    recordings = [(0, 0, 4), (1, 0, 3), (1, 3, 5)]
    index = make(Windows(range(-2, 3), pad="edge"), recordings, [4, 8]).by_recording()
    assert index.num_rows.tolist() == [3]
    parts, rows = index.rows(np.arange(12))
    assert parts.tolist() == [0] * 12
    assert rows.tolist() == [0] * 4 + [1] * 3 + [2] * 5
    assert not index.is_beyond(np.arange(12)).any()
    # A label for each frame of the window, if it is asked for: the same one.
    repeated = index.with_offsets(np.array([0, 0])).rows(np.array([3, 4]))
    assert [part.tolist() for part in repeated] == [[0] * 4, [0, 0, 1, 1]]


@pytest.mark.parametrize("offsets", [None, range(-1, 2)])
def test_all_rows_of_the_recordings_of_some_windows(offsets):
    found = make(Windows(3, hop=2), [(0, 0, 4), (1, 2, 7), (1, 9, 2), (1, 11, 3)], [4, 14])
    assert found.run_recordings.tolist() == [0, 1, 3]
    given = None if offsets is None else np.array(offsets)
    index = found.rows_of(np.array([4, 1, 2]), given)  # of the second and the last recording
    assert (index.num_samples, index.num_rows.tolist()) == (10, [4, 14])
    assert index.rows_per_sample == 1
    # A sample has an axis of one frame if the windows have frames.
    assert (index.offsets is None) == (offsets is None)
    parts, rows = index.rows(np.arange(10))
    assert parts.tolist() == [1] * 10
    assert rows.tolist() == [*range(2, 9), *range(11, 14)]
    assert rows.dtype == np.int64


def test_a_hundred_million_windows_take_no_memory():
    index = make(Windows(16), [(0, 0, 10**8 + 15)], [10**8 + 15]).anchors
    assert index.num_samples == 10**8
    assert sum(array.nbytes for array in (index.run_parts, index.run_rows, index.run_stops)) == 24
    assert given_rows(index, [0, 15], np.array([10**8 - 1])) == [
        (0, [10**8 - 1, 10**8 + 14], [False] * 2)
    ]


def test_a_key_for_what_is_padded():
    assert Windows(4, pad="edge", mask="is_pad").mask == "is_pad"


def test_bounds_may_say_what_they_are():
    assert Windows(4, bounds=("lengths", "ep_len")).bounds == ("lengths", "ep_len")


def test_the_largest_numbers():
    windows = Windows(
        MAX_FRAMES, [-MAX_OFFSET, MAX_OFFSET], hop=MAX_OFFSET, per_recording=MAX_FRAMES
    )
    assert windows.reach == (-MAX_OFFSET, MAX_OFFSET)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"x": 0}, "`x` must be a whole number, 1 or more. Received: x=0"),
        ({"x": []}, "`x` of Windows must be a number of frames, or their offsets"),
        ({"x": [0.5]}, "`x` of Windows must be a number of frames, or their offsets"),
        ({"x": "pixels"}, "`x` of Windows must be a number of frames, or their offsets"),
        ({"x": [[1], [2, 3]]}, "`x` of Windows must be a number of frames, or their offsets"),
        ({"x": None}, "`x` of Windows must be a number of frames, or their offsets"),
        ({"x": True}, "`x` of Windows must be a number of frames, or their offsets"),
        ({"x": {}}, "`x` of Windows must not be an empty dict"),
        ({"x": {"a": 0}}, "`x['a']` must be a whole number, 1 or more"),
        ({"x": 4, "y": [[1]]}, "`y` of Windows must be a number of frames"),
        ({"x": 4, "hop": 0}, "`hop` must be a whole number, 1 or more. Received: hop=0"),
        ({"x": 4, "stride": -1}, "`stride` must be a whole number, 1 or more"),
        ({"x": range(4), "stride": 2}, "`stride` is the distance between the frames of a number"),
        ({"x": 4, "per_recording": 0}, "`per_recording` must be a whole number, 1 or more"),
        ({"x": 4, "position": "center"}, "`position` says which windows `per_recording` takes"),
        ({"x": 4, "position": "end"}, '`position` must be "random", "center", "start" or "spread"'),
        ({"x": 4, "per_recording": 2, "position": "center"}, "There is one window at position"),
        ({"x": 4, "per_recording": 2, "position": "start"}, "There is one window at position"),
        ({"x": 4, "pad": "mirror"}, '`pad` must be None, "edge" or "zeros"'),
        ({"x": 4, "mask": "is_pad"}, "it needs `pad`"),
        ({"x": 4, "pad": "edge", "mask": 3}, "Received: mask=3, pad='edge'"),
        ({"x": 4, "bounds": ("length", "n")}, "`bounds` must be the name of a dataset, or a pair"),
        ({"x": 10**12}, "`x` of Windows must be at most 16777216"),
        ({"x": {"a": [2**63]}}, "`x['a']` of Windows must be at most"),
        ({"x": 4, "y": [-(2**62)]}, "`y` of Windows must be at most"),
        ({"x": 4, "hop": 10**30}, "`hop` of Windows must be at most"),
        ({"x": 4, "stride": 10**30}, "`stride` of Windows must be at most"),
        ({"x": 4, "per_recording": 10**30}, "`per_recording` of Windows must be at most"),
        ({"x": 4, "bounds": 3}, "`bounds` must be the name of a dataset, or a pair"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments, text):
    with pytest.raises(ArgumentError) as caught:
        Windows(**arguments)
    assert text in str(caught.value)
