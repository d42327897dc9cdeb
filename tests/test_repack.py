"""`repack`: reading and writing, arguments, the command line."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import sys
import tracemalloc

import h5py
import numpy as np
import pytest
from decoding_helpers import before_each_chunk
from repack_helpers import GZIP, MANY, ONE, assert_same, change, files_in, native, noise, stored

import h5video_data as h5v
from h5video_data.errors import (
    ArgumentError,
    DatasetNotFoundError,
    FileFormatError,
    MissingDependencyError,
    ReadError,
    RepackingError,
    UnsupportedDtypeError,
    VideoFileNotFoundError,
)
from h5video_data.reading import buffers
from h5video_data.testing import sample_values, write_video_file
from h5video_data.tools.cli import main
from h5video_data.tools.repack import repack
from h5video_data.tools.repacking import sample_batches as samples_of
from h5video_data.tools.repacking import sample_layout, stored_samples
from h5video_data.tools.repacking.contiguous_file import ContiguousFile


@pytest.fixture(autouse=True)
def no_threads_left(new_threads):
    yield
    assert not new_threads()


# --------------------------------------------------------------------------- reading and writing


@pytest.mark.parametrize("chunks", [ONE, MANY, (4, 2, 3, 8, 3), (7, 4, 3, 8, 8)])
def test_each_chunk_is_decoded_once_and_batches_are_small(tmp_path, monkeypatch, chunks):
    write_video_file(tmp_path / "a.h5", num_samples=60, chunks=chunks, **GZIP)
    monkeypatch.setattr(samples_of, "BATCH_BYTES", 3 * 768)
    append, sizes, decoded = ContiguousFile.append, [], []

    def record(self, arrays):
        sizes.append(len(arrays[0]))
        append(self, arrays)

    monkeypatch.setattr(ContiguousFile, "append", record)
    before_each_chunk(monkeypatch, lambda: decoded.append(1))
    repack(tmp_path / "a.h5", tmp_path / "b.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert len(decoded) == file["X"].id.get_num_chunks()
    assert max(sizes) == {1: 3, 4: 4, 7: 7}[chunks[0]]
    assert sum(sizes) == 60

    # Where a whole slab is too much, batches stay small.
    monkeypatch.setattr(samples_of, "MAX_BATCH_BYTES", 3 * 768)
    sizes.clear()
    repack(tmp_path / "a.h5", tmp_path / "b.h5", overwrite=True)
    assert max(sizes) == 3
    assert_same(stored(tmp_path / "b.h5")[-1], sample_values(np.arange(60)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"chunks": (1, 1 << 16)}, {"chunks": (32, 1 << 14), **GZIP}]
)
def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch, options):
    monkeypatch.setattr(samples_of, "BATCH_BYTES", 1 << 20)
    # tracemalloc does not see what is mapped.
    monkeypatch.setattr(buffers, "LEAST_MAPPED_NBYTES", 1 << 40)
    peaks = []
    for num_samples in (128, 1024):  # 8 and 64 MiB
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("X", (num_samples, 1 << 16), "u1", **options)
            for start in range(0, num_samples, 32):
                file["X"][start : start + 32] = np.full((32, 1 << 16), start // 32, "u1")
            file.create_dataset("big", (num_samples, 1 << 12), "f8", chunks=(5, 1 << 10))
            file.attrs["sample_count"] = num_samples - 1  # so that its rows are copied one by one
        tracemalloc.start()
        repack(tmp_path / "a.h5", tmp_path / "b.h5", read_ahead_bytes=8 << 20, overwrite=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        os.remove(tmp_path / "a.h5")
    assert max(peaks) < 16 << 20
    assert peaks[1] < peaks[0] + (3 << 20)


@pytest.mark.parametrize("target", [None, "gzip"])
def test_a_sample_that_reads_otherwise_is_noticed(tmp_path, monkeypatch, target):
    write_video_file(tmp_path / "a.h5", num_samples=60)
    append, encode = ContiguousFile.append, sample_layout.encode_chunk

    def with_an_error(values):
        return np.where(values == values.max(), 0, values).astype(values.dtype)

    monkeypatch.setattr(
        ContiguousFile, "append", lambda file, batch: append(file, [*map(with_an_error, batch)])
    )
    monkeypatch.setattr(
        sample_layout, "encode_chunk", lambda name, v, level: encode(name, with_an_error(v), level)
    )
    with pytest.raises(RepackingError, match=r"a.h5: dataset '/X', sample 0: h5py reads other"):
        repack(tmp_path / "a.h5", tmp_path / "b.h5", compression=target)
    assert files_in(tmp_path) == ["a.h5"]


def test_the_last_sample_of_each_file_is_compared_too(tmp_path, monkeypatch):
    for number in range(2):
        write_video_file(tmp_path / f"{number}.h5", num_samples=30, first=30 * number)
    append, looked_at = ContiguousFile.append, []

    class Looked(stored_samples.Values):
        def read(self, *selection):
            looked_at.append((os.path.basename(self.dataset.file.filename), selection[0].start))
            return super().read(*selection)

    monkeypatch.setattr(stored_samples, "Values", Looked)
    repack(tmp_path / "?.h5", tmp_path / "out.h5")
    assert len(looked_at) == 16
    assert looked_at[0] == ("0.h5", 0)
    assert looked_at[-1] == ("1.h5", 29)

    def spoil_the_last(file, batch):
        values = batch[0].copy()
        values[-1, -1] += 1
        append(file, [values])

    monkeypatch.setattr(ContiguousFile, "append", spoil_the_last)
    with pytest.raises(RepackingError, match=r"1.h5: dataset '/X', sample 29: .* in sample 59 of"):
        repack(tmp_path / "?.h5", tmp_path / "more.h5")
    monkeypatch.setattr(stored_samples, "CHECKED_BYTES", 0)
    with pytest.raises(RepackingError, match=r"1.h5: dataset '/X', sample 29"):
        repack(tmp_path / "?.h5", tmp_path / "more.h5")


def test_hdf5_is_never_called_by_two_threads_at_once(tmp_path, monkeypatch):
    # Big-endian values are read by HDF5 in the loader's threads, while chunks are written.
    monkeypatch.setattr(samples_of, "BATCH_BYTES", 64)
    expected = noise((6000, 4, 4), ">u2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = expected
    repack(tmp_path / "a.h5", tmp_path / "b.h5", compression="lzf")
    assert_same(stored(tmp_path / "b.h5")[-1], native(expected))


def test_a_chunk_that_cannot_be_decoded(tmp_path):
    path = write_video_file(tmp_path / "a.h5", chunks=ONE, **GZIP)
    with h5py.File(path) as file:
        chunk = file["X"].id.get_chunk_info(13)
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\0" * chunk.size)
    with pytest.raises(ReadError, match=r"a.h5: dataset '/X', sample 13: "):
        repack(path, tmp_path / "b.h5")
    assert files_in(tmp_path) == ["a.h5"]


# --------------------------------------------------------------------------- arguments

ARGUMENTS = {
    "x nothing": ({"x": []}, r"`x` must be .*Received: x=\[\]$"),
    "x number": ({"x": 3}, r"`x` must be .*Received: x=3$"),
    "x empty": ({"x": ["X", ""]}, r"`x` must be .*Received: x=\['X', ''\]$"),
    "compression": ({"compression": "zip"}, r"`compression` must .*: compression='zip'$"),
    "level": ({"compression": 4}, r"`compression` must .*: compression=4$"),
    "unhashable": ({"compression": ["gzip"]}, r"`compression` must .*: compression=\['gzip'\]$"),
    "chunks": ({"chunks": (1, 2)}, r"`chunks` must be None or .sample.\. .*chunks=\(1, 2\)$"),
    "memory": ({"read_ahead_bytes": -1}, r"`read_ahead_bytes` must .*read_ahead_bytes=-1$"),
}


@pytest.mark.parametrize("case", ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments(tmp_path, case):
    arguments, message = case
    path = write_video_file(tmp_path / "a.h5")
    with pytest.raises(ArgumentError, match=message):
        repack(path, tmp_path / "b.h5", **arguments)
    assert files_in(tmp_path) == ["a.h5"]


def test_wrong_files(tmp_path):
    path = write_video_file(tmp_path / "a.h5")
    change(path, "names", [b"a"] * 20)
    with pytest.raises(VideoFileNotFoundError, match=r"No such file"):
        repack(tmp_path / "none.h5", tmp_path / "b.h5")
    with pytest.raises(VideoFileNotFoundError, match=r"no folder .*nowhere to write b\.h5 to"):
        repack(path, tmp_path / "nowhere/b.h5")
    with pytest.raises(ArgumentError, match=r"is a folder\. Received: out="):
        repack(path, tmp_path, overwrite=True)
    with pytest.raises(DatasetNotFoundError, match=r"'Z'"):
        repack(path, tmp_path / "b.h5", x="Z")
    with pytest.raises(UnsupportedDtypeError, match=r"string"):
        repack(path, tmp_path / "b.h5", x="names")
    assert files_in(tmp_path) == ["a.h5"]


def test_a_sample_of_4_gib_is_no_chunk(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", (2, 1 << 16, 1 << 16), "u1", chunks=(1, 64, 64))
    with pytest.raises(ArgumentError, match=r"than 4 GiB, and has 4294967296 bytes: .*: compress"):
        repack(tmp_path / "a.h5", tmp_path / "b.h5", chunks="sample")
    assert files_in(tmp_path) == ["a.h5"]


def test_packages_that_are_missing(tmp_path, monkeypatch):
    path = write_video_file(tmp_path / "a.h5")
    for name in ("tqdm", "hdf5plugin"):
        monkeypatch.setitem(sys.modules, name, None)
    repack(path, tmp_path / "b.h5", compression="lzf")
    with pytest.raises(MissingDependencyError, match=r"Zstd, .*pip install 'h5video_data\[filters"):
        repack(path, tmp_path / "c.h5", compression="zstd")
    with pytest.raises(MissingDependencyError, match=r"tqdm .*pip install 'h5video_data\[pack\]'"):
        repack(path, tmp_path / "c.h5", progress=True)
    assert files_in(tmp_path) == ["a.h5", "b.h5"]


# --------------------------------------------------------------------------- command line, advice


def test_command(tmp_path, capsys):
    paths = [write_video_file(tmp_path / f"{n}.h5", num_samples=3, first=3 * n) for n in range(2)]
    for path in paths:
        with h5py.File(path, "a") as file:
            file["more/X2"] = file["X"][:] + np.uint8(1)
            file["note"] = "text"
    out = str(tmp_path / "out.h5")
    assert main(["repack", *paths, out]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{out}: 6 samples of X, ")
    assert f"skipped dataset '/note' of {paths[1]}: it does not hold a value for" in printed.err
    assert "repacking" not in printed.err  # no bar where nobody watches it
    assert_same(stored(out)[-1], sample_values(np.arange(6)))
    assert main(["repack", "--quiet", paths[0], out]) == 1
    assert "Use --overwrite to replace it" in capsys.readouterr().err
    arguments = ["--x", "X", "--x", "more/X2", "--compression", "lzf", "--overwrite", "--quiet"]
    assert main(["repack", paths[0], out, *arguments]) == 0
    assert capsys.readouterr() == ("", "")
    assert stored(out, "more/X2")[:3] == ("chunked", ONE, [32000])
    assert main(["repack", paths[0], out, "--chunks", "sample", "--overwrite", "--quiet"]) == 0
    assert stored(out)[:3] == ("chunked", ONE, [])


def test_command_without_tqdm(tmp_path, monkeypatch, capsys):
    path = write_video_file(tmp_path / "a.h5")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tqdm" else find_spec(name)
    )
    assert main(["repack", path, str(tmp_path / "b.h5")]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["X", "a group/X"])
@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (1, 8, 3, 8, 8), "maxshape": (None,) * 5, **GZIP},
        {"external": [("raw.bin", 0, h5py.h5f.UNLIMITED)]},
        {"chunks": ONE, "scaleoffset": 8},
    ],
)
def test_the_advice_of_inspect_can_be_typed(tmp_path, monkeypatch, capsys, name, options):
    monkeypatch.chdir(tmp_path)
    path = write_video_file(tmp_path / "a set.h5", **options)
    with h5py.File(path, "a") as file:
        file.move("X", name)
    (advice,) = next(item.advice for item in h5v.inspect(path).datasets if item.name == name)
    command = re.search(r"h5video-data (repack .*)$", advice)[1]
    assert main(shlex.split(command)) == 0
    capsys.readouterr()
    (report,) = [
        item for item in h5v.inspect(tmp_path / "a set_fast.h5").datasets if item.name == name
    ]
    assert (report.storage, report.path, report.advice) == ("contiguous", "direct", ())


@pytest.mark.parametrize(
    "lengths", [[(3, 5), (4, 4)], [(3, 5), (4, 6)], [(3, 2), (4, 4)]],
    ids=["longer", "always longer", "shorter"],
)  # fmt: skip
def test_labels_of_other_lengths_are_not_those_of_the_first_file(tmp_path, lengths):
    for number, (samples, num_labels) in enumerate(lengths):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["X"] = np.zeros((samples, 2, 3), np.uint8)
            file["Y"] = np.arange(num_labels)
            file["names"] = np.arange(7)
    with pytest.raises(FileFormatError, match=r"/Y.* as many rows as there are samples, in all"):
        h5v.repack(str(tmp_path / "?.h5"), tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()
    for number in range(2):
        with h5py.File(tmp_path / f"{number}.h5", "a") as file:
            del file["Y"]
    report = h5v.repack(str(tmp_path / "?.h5"), tmp_path / "out.h5")
    assert report.num_samples == 7
    assert len(report.skipped) == 1  # names of the second file
