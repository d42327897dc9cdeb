"""x and y of one dataset: their rows are in one array, and each is read and decoded once."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5video_data import VideoLoader, Windows
from h5video_data.errors import ReadError
from h5video_data.reading.batch_rows import rows_of_components
from h5video_data.reading.buffers import BufferPool
from h5video_data.sampling.sample_index import SampleIndex
from h5video_data.storage.scratch import ALIGNMENT
from h5video_data.video_set import Component

LENGTHS = (23, 31, 18)
STORED = {
    "contiguous": {},
    "a chunk a frame": {"chunks": (1, 4, 5, 3), "compression": "gzip"},
    "chunks of 8 frames": {"chunks": (8, 4, 5, 3), "compression": "gzip"},
    "big-endian": {"chunks": (8, 4, 5, 3), "compression": "gzip", "dtype": ">u2"},
    "big-endian, contiguous": {"dtype": ">u2"},
    "by h5py": {"chunks": (8, 4, 5, 3), "compression": "szip"},
}
WINDOWS = {
    "next frames": Windows(range(6), range(6, 9)),
    "overlapping": Windows(range(6), range(1, 7)),
    "an anchor": Windows({"a": 5}, range(-2, 4)),
    "padded": Windows(range(6), range(-2, 9), pad="edge"),
    "zeros": Windows(range(6), range(-2, 9), pad="zeros"),
}


def write(folder, shape=(4, 5, 3), **options):
    rng = np.random.default_rng(3)
    data = rng.integers(0, 256, (sum(LENGTHS), *shape), np.uint8)
    with h5py.File(folder / "flat.h5", "w") as file:
        file.create_dataset("pixels", data=data, **options)
        file["ep_len"] = LENGTHS
    return str(folder / "flat.h5"), data


def expected(data, windows, side, key, anchor, begin, stop):
    offsets = windows.offsets(side, key)
    if offsets is None:
        return data[anchor]
    rows = anchor + offsets
    values = data[np.clip(rows, begin, stop - 1)]
    if windows.pad == "zeros":
        values[(rows < begin) | (rows >= stop)] = 0
    return values


@pytest.mark.parametrize("windows", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
@pytest.mark.parametrize("shuffle", [True, False])
def test_both_have_their_own_frames(tmp_path, stored, windows, shuffle):
    if stored.get("compression") == "szip" and not h5py.h5z.filter_avail(h5py.h5z.FILTER_SZIP):
        stored = {"chunks": (2, 4, 5, 3), "scaleoffset": 0}
    path, data = write(tmp_path, **stored)
    windows = Windows(
        windows.x, windows.y, pad=windows.pad, bounds="ep_len", hop=1 if shuffle else 2
    )
    x = {"a": "pixels", "b": "pixels"} if isinstance(windows.x, dict) else "pixels"
    loader = VideoLoader(
        path, x=x, y="pixels", windows=windows, batch_size=7, shuffle=shuffle, seed=1,
        return_indices=True,
    )  # fmt: skip
    index = loader._set.windows.index
    edges = np.append(0, np.cumsum(LENGTHS))
    count = 0
    for found_x, found_y, numbers in loader:
        _, _, anchors = index.anchors.anchors(numbers)
        for i, number in enumerate(numbers):
            recording = index.recordings_of(np.array([number]))[0]
            place = int(anchors[i]), edges[recording], edges[recording + 1]
            trees = found_x if isinstance(x, dict) else {None: found_x}
            for key, values in trees.items():
                wanted = expected(data, windows, "x", key, *place)
                np.testing.assert_array_equal(values[i], wanted)
            np.testing.assert_array_equal(found_y[i], expected(data, windows, "y", None, *place))
        count += len(numbers)
    assert count == loader.num_samples > 20


def stats_of_an_epoch(path, **arguments):
    loader = VideoLoader(path, x="pixels", **arguments, num_threads=1, batch_size=8, seed=0)
    for _ in loader:
        pass
    return loader.stats, loader.num_samples


def test_chunks_of_many_frames_are_decoded_once_for_both(tmp_path):
    path, _ = write(tmp_path, chunks=(8, 4, 5, 3), compression="gzip")
    windows = Windows(range(6), range(6, 9), bounds="ep_len")
    stats, _ = stats_of_an_epoch(path, y="pixels", windows=windows)
    assert stats.num_chunks == -(-sum(LENGTHS) // 8)


def test_a_compressed_frame_of_both_is_decoded_once_a_task(tmp_path):
    path, _ = write(tmp_path, chunks=(1, 4, 5, 3), compression="gzip")
    # Far from each other: no window shares a frame with another one.
    windows = Windows(range(4), range(1, 5), bounds="ep_len", hop=5)
    stats, count = stats_of_an_epoch(path, y="pixels", windows=windows)
    assert stats.num_chunks == 5 * count


def test_compressed_frames_of_windows_that_follow_each_other_are_decoded_once_a_task(tmp_path):
    path, _ = write(tmp_path, chunks=(1, 4, 5, 3), compression="gzip")
    windows = Windows(8, bounds=None)
    stats, count = stats_of_an_epoch(path, y=None, windows=windows, shuffle=False)
    assert count == sum(LENGTHS) - 7
    # A batch of 8 windows has 15 frames; without sharing it would decode 64.
    assert stats.num_chunks < 16 * -(-count // 8) * 2


def test_stored_bytes_of_both_are_read_once(tmp_path):
    path, data = write(tmp_path)
    windows = Windows(range(4), range(1, 5), bounds="ep_len", hop=5)
    stats, count = stats_of_an_epoch(path, y="pixels", windows=windows)
    assert stats.read_bytes == 5 * count * data[0].nbytes


def test_small_values_of_both_are_kept_once(tmp_path, monkeypatch):
    path, _ = write(tmp_path, shape=())
    read = []
    monkeypatch.setattr(
        "h5video_data.reading.batch_reader.read_rows",
        lambda _, counts: read.append(counts) or [np.arange(sum(LENGTHS), dtype=np.uint8)],
    )
    with VideoLoader(
        path, x="pixels", y="pixels", windows=Windows(3, range(3, 5)), batch_size=8
    ) as loader:
        next(iter(loader))
    assert read == [[sum(LENGTHS)]]


@pytest.mark.parametrize("shape", [(4, 5, 3), (7, 7), (8, 8), (1,)])
def test_each_array_begins_where_tensorflow_takes_it(tmp_path, shape):
    path, _ = write(tmp_path, shape=shape, chunks=(1, *shape), compression="gzip")
    windows = Windows(range(3), range(3, 8))
    with VideoLoader(path, x="pixels", y="pixels", windows=windows, batch_size=5) as loader:
        for arrays in loader:
            for array in arrays:
                assert array.flags.c_contiguous
                assert array.ctypes.data % ALIGNMENT == 0
            break


def test_a_frame_that_cannot_be_read_fails_all_windows_that_have_it(tmp_path):
    for chunk in (1, 8):
        path, _ = write(tmp_path, chunks=(chunk, 4, 5, 3), compression="gzip", fletcher32=True)
        with h5py.File(path) as file:
            info = file["pixels"].id.get_chunk_info(0)
        with open(path, "r+b") as file:
            file.seek(info.byte_offset)
            file.write(bytes(info.size))
        arguments = {
            "x": "pixels", "y": "pixels", "windows": Windows(range(2, 4), range(4)), "hop": None,
        }  # fmt: skip
        del arguments["hop"]
        with VideoLoader(path, **arguments, batch_size=4, on_error="skip", seed=0) as loader:
            numbers = np.concatenate([n for _, n, _ in loader.batches()])
            assert sorted(loader.skipped) == list(range(chunk))
            assert sorted(numbers) == list(range(chunk, loader.num_samples))
        with (
            VideoLoader(path, **arguments, batch_size=4) as loader,
            pytest.raises(ReadError, match="sample"),
        ):
            list(loader)


def component(offsets, row_shape=(3,)):
    index = SampleIndex.stacked(np.array([50])).with_offsets(offsets)
    return Component("a", (), index, values=np.zeros((50, *row_shape), np.uint8))


@given(st.lists(st.lists(st.integers(-5, 5), min_size=1, max_size=6), min_size=1, max_size=4),
       st.integers(1, 9), st.integers(1, 130))  # fmt: skip
def test_places_are_those_of_the_views(offsets, num_samples, row_nbytes):
    items = [component(np.array(item), (row_nbytes,)) for item in offsets]
    shared = rows_of_components(items[:1])[0].__class__(
        tuple(range(len(items))),
        tuple(items),
        items[0].index.with_offsets(np.concatenate(list(map(np.array, offsets)))),
    )
    array = np.zeros((shared.starts(num_samples)[-1], row_nbytes), np.uint8)
    places = shared.places(0, num_samples, num_samples)
    assert len(set(places)) == len(places)
    array[:, 0] = 255
    array[places, 0] = np.arange(len(places)) % 251
    views = shared.views(array, num_samples)
    planned = np.concatenate([view[:, :, 0] for view in views], axis=1).ravel()
    np.testing.assert_array_equal(planned, np.arange(len(places)) % 251)
    for view in views:
        assert (view.ctypes.data - array.ctypes.data) % ALIGNMENT == 0
    half = num_samples // 2
    halves = [shared.places(0, half, num_samples), shared.places(half, num_samples, num_samples)]
    np.testing.assert_array_equal(np.concatenate(halves), places)


@pytest.mark.tf
def test_tensorflow_takes_both_as_they_are(tmp_path, monkeypatch):
    path, _ = write(tmp_path, shape=(7, 7), chunks=(1, 7, 7), compression="gzip")
    lent = set()
    lend = BufferPool.lend

    def noted(pool, shape, dtype):
        array = lend(pool, shape, dtype)
        lent.add((array.ctypes.data, array.nbytes))
        return array

    monkeypatch.setattr(BufferPool, "lend", noted)
    loader = VideoLoader(
        path, x="pixels", y="pixels", windows=Windows(range(3), range(3, 8)), batch_size=8
    )
    for element in loader.dataset():
        for tensor in element:
            begin = np.asarray(memoryview(tensor)).ctypes.data
            assert any(first <= begin < first + size for first, size in lent)
