import os

import h5py
import numpy as np
import pytest

from h5video_data.errors import FileChangedError, ReadError, VideoFileNotFoundError
from h5video_data.planning.access import direct_access
from h5video_data.reading import byte_sources
from h5video_data.reading.byte_sources import ByteSources, RangeError, each_range, read_in_runs
from h5video_data.reading.chunk_decoder import ChunkRowDecoder
from h5video_data.reading.read_stats import ReadStats
from h5video_data.reading.sample_sources import DirectSource, RowRequest
from h5video_data.storage.file_identity import FileIdentity, identity_of
from h5video_data.storage.layout import describe
from h5video_data.testing import sample_values, write_video_file


class RecordingSource:
    """Bytes in memory; records the ranges that it is asked for."""

    def __init__(self, content, identity):
        self.content = np.frombuffer(content, np.uint8)
        self.asked, self.announced, self.failing = [], [], []
        self._identity = identity

    def identity(self):
        return self._identity

    def announce(self, offsets, sizes):
        self.announced.append([*zip(offsets.tolist(), sizes.tolist(), strict=True)])

    def read_ranges(self, offsets, sizes, starts, target):
        self.asked.append([*zip(offsets.tolist(), sizes.tolist(), strict=True)])
        ranges = zip(offsets.tolist(), sizes.tolist(), starts.tolist(), strict=True)
        for number, (offset, size, start) in enumerate(ranges):
            if offset in self.failing:
                raise RangeError(number) from OSError("no such luck")
            target[start : start + size] = self.content[offset : offset + size]


class RecordingSources:
    def __init__(self, stored):
        with open(stored.path, "rb") as file:
            self.source = RecordingSource(file.read(), stored.identity)

    def open(self, *_):
        return self.source


def stored_in(path, name="X"):
    with h5py.File(path) as file:
        return describe(file[name])


def test_samples_that_follow_each_other_are_one_range(tmp_path):
    stored = stored_in(write_video_file(tmp_path / "a.h5", num_samples=9))
    sources = RecordingSources(stored)
    source = DirectSource(direct_access(stored).ranges, sources)
    rows, out = np.array([3, 4, 5, 0]), np.empty((4, *stored.shape[1:]), np.uint8)
    source.read(RowRequest(rows, np.arange(4), None, out), ReadStats())
    begin, size = int(stored.offsets[0]), stored.row_nbytes
    assert sources.source.asked == [[(begin + 3 * size, 3 * size), (begin, size)]]
    np.testing.assert_array_equal(out, sample_values(rows))


def test_chunks_are_announced_and_read_together(tmp_path):
    path = write_video_file(
        tmp_path / "a.h5", num_samples=9, chunks=(1, 4, 3, 8, 8), compression="gzip"
    )
    stored = stored_in(path)
    sources = RecordingSources(stored)
    source = DirectSource(direct_access(stored).ranges, sources)
    rows, out = np.array([7, 2]), np.empty((2, *stored.shape[1:]), np.uint8)
    source.read(RowRequest(rows, np.arange(2), None, out), ReadStats())
    ranges = [(int(stored.offsets[row]), int(stored.sizes[row])) for row in rows]
    assert sources.source.announced == [ranges]
    assert [some for some in sources.source.asked if some] == [ranges]
    np.testing.assert_array_equal(out, sample_values(rows))


def test_a_chunk_row_is_read_in_its_ranges(tmp_path):
    path = write_video_file(
        tmp_path / "a.h5", num_samples=8, chunks=(4, 4, 3, 8, 4), compression="lzf"
    )
    stored = stored_in(path)
    sources = RecordingSources(stored)
    decoder = ChunkRowDecoder(direct_access(stored).chunk_rows, None, sources)
    out = np.empty((2, *stored.shape[1:]), np.uint8)
    decoder.decode(1, 0, [0, 3], [0, 0], [out[:1], out[1:]], ReadStats())
    ranges = [(int(stored.offsets[n]), int(stored.sizes[n])) for n in (2, 3)]
    assert sources.source.asked == [ranges]
    np.testing.assert_array_equal(out, sample_values(np.array([4, 7])))


def test_chunks_of_a_row_have_filter_masks_of_their_own(tmp_path):
    path = tmp_path / "a.h5"
    values = np.arange(4 * 2 * 3 * 8, dtype=np.uint8).reshape(4, 2, 3, 8)
    with h5py.File(path, "w") as file:
        X = file.create_dataset("X", values.shape, "u1", chunks=(4, 2, 3, 2), compression="gzip")
        X[..., :4] = values[..., :4]  # the last chunk is not written
        X.id.write_direct_chunk((0, 0, 0, 4), values[..., 4:6].tobytes(), 1)
    values[..., 6:] = 0
    stored = stored_in(path)
    decoder = ChunkRowDecoder(direct_access(stored).chunk_rows, None, ByteSources())
    out = np.full_like(values, 7)
    decoder.decode(0, 0, range(4), [0] * 4, [out[i : i + 1] for i in range(4)], ReadStats())
    np.testing.assert_array_equal(out, values)


@pytest.mark.parametrize("options", [{}, {"chunks": (1, 4, 3, 8, 8), "compression": "lzf"}])
def test_an_error_names_the_sample_of_the_range(tmp_path, options):
    stored = stored_in(write_video_file(tmp_path / "a.h5", num_samples=9, **options))
    sources = RecordingSources(stored)
    bad = stored.offsets[5] if options else stored.offsets[0] + 5 * stored.row_nbytes
    sources.source.failing.append(int(bad))
    source = DirectSource(direct_access(stored).ranges, sources)
    out = np.empty((4, *stored.shape[1:]), np.uint8)
    request = RowRequest(np.array([1, 8, 5, 2]), np.arange(4), None, out)
    with pytest.raises(ReadError, match="sample 5: no such luck"):
        source.read(request, ReadStats())


@pytest.mark.parametrize("options", [{}, {"chunks": (4, 4, 3, 8, 4), "compression": "lzf"}])
def test_another_identity_is_an_error(tmp_path, options):
    stored = stored_in(write_video_file(tmp_path / "a.h5", num_samples=9, **options))
    sources = RecordingSources(stored)
    sources.source._identity = FileIdentity(1, 2, 3, 4)
    out = np.empty((1, *stored.shape[1:]), np.uint8)
    access, stats = direct_access(stored), ReadStats()
    if options:
        decoder = ChunkRowDecoder(access.chunk_rows, None, sources)
        read, arguments = decoder.decode, (0, 0, [0], [0], [out], stats)
    else:
        source = DirectSource(access.ranges, sources)
        read, arguments = source.read, (RowRequest(np.array([1]), np.arange(1), None, out), stats)
    with pytest.raises(FileChangedError, match=r"a\.h5"):
        read(*arguments)


@pytest.fixture
def content(tmp_path):
    content = np.random.default_rng(0).integers(0, 256, 10_000, np.uint8)
    content.tofile(tmp_path / "bytes")
    return content


@pytest.fixture(params=["a queue", "no queue"])
def local(tmp_path, content, monkeypatch, request):  # noqa: ARG001 - the file's content
    if request.param == "no queue":
        monkeypatch.setattr(byte_sources, "open_queue", lambda: None)
    path = str(tmp_path / "bytes")
    return ByteSources().open(path, identity_of(path))


def test_ranges_of_a_local_file(local, content):
    rng = np.random.default_rng(1)
    sizes = rng.integers(0, 50, 300)
    offsets = rng.integers(0, 10_000 - 50, 300)
    starts = np.cumsum(sizes + 3) - sizes  # with gaps, which stay as they are
    target = np.full(int(starts[-1] + sizes[-1]), 7, np.uint8)
    local.read_ranges(offsets, sizes, starts, target)
    expected = np.full_like(target, 7)
    for offset, size, start in zip(offsets, sizes, starts, strict=True):
        expected[start : start + size] = content[offset : offset + size]
    np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize("at_once", [1, 40, 1000, 1 << 21])
def test_ranges_in_runs(local, content, at_once, monkeypatch):
    monkeypatch.setattr(byte_sources, "BYTES_AT_ONCE", at_once)
    asked, read_ranges = [], local.read_ranges
    monkeypatch.setattr(
        local, "read_ranges", lambda *args: asked.append(args) or read_ranges(*args)
    )
    rng = np.random.default_rng(2)
    sizes = rng.integers(0, 50, 60)
    offsets = rng.integers(0, 10_000 - 50, 60)
    chosen = np.flatnonzero(rng.integers(0, 4, 60))
    numbers = []
    for number, data in each_range(read_in_runs(local, offsets, sizes, chosen)):
        begin = offsets[number]
        np.testing.assert_array_equal(data, content[begin : begin + sizes[number]])
        numbers.append(number)
    assert numbers == chosen.tolist()
    # The last range of each run begins before the limit.
    assert all(run[1][:-1].sum() < at_once for run in asked)
    assert len(asked) == (1 if at_once > 3000 else len(asked)) <= len(chosen)
    assert not list(read_in_runs(local, offsets, sizes, chosen[:0]))


def test_no_memory_for_a_run_names_its_first_range(local, monkeypatch):
    def none_left(*_):
        raise MemoryError

    monkeypatch.setattr(byte_sources, "scratch", none_left)
    with pytest.raises(RangeError) as caught:
        next(read_in_runs(local, np.zeros(4, int), np.full(4, 9), np.array([2, 3])))
    assert caught.value.number == 2
    assert isinstance(caught.value.__cause__, MemoryError)


def test_the_range_that_cannot_be_read_in_runs(local, monkeypatch):
    monkeypatch.setattr(byte_sources, "BYTES_AT_ONCE", 60)
    offsets, sizes = np.array([0, 20, 9_990, 40, 60, 9_995]), np.full(6, 20)
    found = each_range(read_in_runs(local, offsets, sizes, np.array([0, 1, 3, 4, 5])))
    assert [next(found)[0] for _ in range(3)] == [0, 1, 3]
    with pytest.raises(RangeError) as caught:
        next(found)
    # How much of it was read says nothing of where its values go.
    assert (caught.value.number, caught.value.num_read) == (5, 0)


def test_a_range_beyond_the_end_of_a_local_file(local):
    target = np.zeros(60, np.uint8)
    offsets, sizes, starts = np.array([0, 9_990, 50]), np.full(3, 20), 20 * np.arange(3)
    with pytest.raises(RangeError) as caught:
        local.read_ranges(offsets, sizes, starts, target)
    assert (caught.value.number, caught.value.num_read) == (1, 10)
    assert str(caught.value.__cause__) == "the file ends 10 bytes too early"
    with pytest.raises(RangeError) as caught:
        local.read_ranges(np.array([10_000]), np.array([5]), np.array([0]), target)
    assert "its stored size, is damaged" in str(caught.value.__cause__)


def test_the_identity_of_a_local_file_is_that_of_what_is_open(tmp_path, local, content):
    path = tmp_path / "bytes"
    before = local.identity()
    content.tofile(tmp_path / "new")
    os.replace(tmp_path / "new", path)
    assert local.identity() == before != identity_of(str(path))
    with pytest.raises(FileChangedError):
        ByteSources().open(str(path), before)
    path.unlink()
    with pytest.raises(VideoFileNotFoundError):
        ByteSources().open(str(path), before)
