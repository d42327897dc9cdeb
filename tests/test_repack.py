from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repack_helpers import GZIP, MANY, ONE, assert_same, files_in, native, noise, stored

import h5video_data as h5v
from h5video_data.errors import (
    ArgumentError,
    DatasetNotFoundError,
    FileFormatError,
    H5VideoError,
    MissingDependencyError,
    ReadError,
    RepackingError,
    UnsupportedDtypeError,
    VideoFileNotFoundError,
)
from h5video_data.loader import VideoLoader
from h5video_data.reading import buffers
from h5video_data.reading import chunk_decoder as slabs
from h5video_data.reading import sample_sources as sources
from h5video_data.testing import SAMPLE_SHAPE, labels, sample_values, write_video_file
from h5video_data.tools import repack as repacking
from h5video_data.tools.cli import main
from h5video_data.tools.packing.partial_files import PartialFile
from h5video_data.tools.repack import COMPRESSIONS, SkippedItem, repack
from h5video_data.tools.repacking import sample_batches as samples_of
from h5video_data.tools.repacking import sample_layout, stored_samples
from h5video_data.tools.repacking.contiguous_file import ContiguousFile


@pytest.fixture(autouse=True)
def no_threads_left(new_threads):
    yield
    assert not new_threads()


# --------------------------------------------------------------------------- layouts of the source

SOURCES = {
    "contiguous": {},
    "one sample a chunk": {"chunks": ONE},
    "gzip": {"chunks": ONE, **GZIP},
    "many samples a chunk": {"chunks": MANY},
    "many samples a chunk, gzip": {"chunks": MANY, **GZIP},
    "all samples in a chunk": {"chunks": (20, *SAMPLE_SHAPE), **GZIP},
    "more than all samples in a chunk": {
        "chunks": (50, *SAMPLE_SHAPE),
        "maxshape": (None, *SAMPLE_SHAPE),
        **GZIP,
    },
    "automatic chunks": {"chunks": True},
    "automatic chunks, gzip": {"chunks": True, **GZIP, "shuffle": True},
    "chunks that cut everything": {"chunks": (3, 3, 2, 5, 5), "compression": "lzf"},
    "fletcher32": {"chunks": ONE, "fletcher32": True},
    "blosc": {"chunks": MANY, **hdf5plugin.Blosc()},
    "blosc2": {"chunks": ONE, **hdf5plugin.Blosc2()},
    "big-endian": {"dtype": ">u2"},
    "big-endian, gzip": {"dtype": ">f4", "chunks": MANY, **GZIP},
    "float16": {"dtype": "f2"},
    "float32": {"dtype": "f4", "chunks": ONE, **GZIP, "shuffle": True},
    "float64": {"dtype": "f8", "chunks": True},
    "complex": {"dtype": "c8"},
    "bool": {"dtype": "?"},
}


@pytest.mark.parametrize("options", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_source_layouts(tmp_path, options, compression):
    options = {"dtype": "u1", **options}
    expected = noise((20, *SAMPLE_SHAPE), options.pop("dtype"))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", data=expected, **options)
    before = (tmp_path / "a.h5").read_bytes(), os.stat(tmp_path / "a.h5").st_mtime_ns
    report = repack(tmp_path / "a.h5", tmp_path / "b.h5", compression=compression)
    assert report == repacking.RepackReport(tmp_path / "b.h5", 20, ("X",), ())
    storage, chunks, filters, found = stored(tmp_path / "b.h5")
    assert_same(found, native(expected))
    if compression is None:
        assert (storage, chunks, filters) == ("contiguous", None, [])
    else:
        assert (storage, chunks) == ("chunked", ONE)
        assert filters == ([1] if expected.itemsize == 1 else [2, 1])
    after = (tmp_path / "a.h5").read_bytes(), os.stat(tmp_path / "a.h5").st_mtime_ns
    assert before == after


TARGETS = {
    "contiguous": ({}, "contiguous", []),
    "chunks": ({"chunks": "sample"}, "chunked", []),
    "gzip": ({"compression": "gzip"}, "chunked", [2, 1]),
    "lzf": ({"compression": "lzf", "chunks": "sample"}, "chunked", [2, 32000]),
    "zstd": ({"compression": "zstd"}, "chunked", [2, 32015]),
    "lz4": ({"compression": "lz4"}, "chunked", [2, 32004]),
    "blosc": ({"compression": "blosc"}, "chunked", [32001]),
    "bitshuffle": ({"compression": "bitshuffle"}, "chunked", [32008]),
}


@pytest.mark.parametrize("case", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("is_smooth", [True, False])
def test_target_layouts(tmp_path, case, is_smooth):
    options, *expected_layout = case
    expected = noise((5, *SAMPLE_SHAPE), "f4")  # which no codec makes smaller
    if is_smooth:
        expected = sample_values(np.arange(5)).astype("f4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = expected
    repack(tmp_path / "a.h5", tmp_path / "b.h5", **options)
    storage, chunks, filters, found = stored(tmp_path / "b.h5")
    assert [storage, filters] == expected_layout
    assert chunks == (None if storage == "contiguous" else ONE)
    assert_same(found, expected)
    with h5py.File(tmp_path / "b.h5") as file:
        size = file["X"].id.get_storage_size()
    assert size < expected.nbytes if is_smooth and filters else size <= expected.nbytes + 5 * 256
    with VideoLoader(tmp_path / "b.h5", y=None, shuffle=False, batch_size=5) as loader:
        assert_same(next(iter(loader)), expected)
    # A chunk for each sample: the dataset can grow.
    if chunks:
        with h5py.File(tmp_path / "b.h5", "a") as file:
            file["X"].resize(9, axis=0)


def test_every_compression_is_tested_and_on_the_command_line(capsys):
    assert {options.get("compression") for options, *_ in TARGETS.values()} == {None, *COMPRESSIONS}
    with pytest.raises(SystemExit):
        main(["repack", "--help"])
    assert f"{{none,{','.join(COMPRESSIONS)}}}" in capsys.readouterr().out


def test_userblock(tmp_path):
    expected = noise((20, *SAMPLE_SHAPE))
    for name, options in {"plain": {}, "chunked": {"chunks": MANY, **GZIP}}.items():
        with h5py.File(tmp_path / name, "w", userblock_size=512) as file:
            file.create_dataset("X", data=expected, **options)
        report = repack(tmp_path / name, tmp_path / f"{name}.h5")
        assert_same(stored(tmp_path / f"{name}.h5")[-1], expected)
        assert [item.name for item in report.skipped] == ["the userblock of 512 bytes"]


def test_never_written(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", (6, *SAMPLE_SHAPE), "u1", chunks=ONE, fillvalue=7)
        file["X"][2] = 1
        file.create_dataset("nothing", (6, *SAMPLE_SHAPE), "u1")
    repack(tmp_path / "a.h5", tmp_path / "b.h5", x=["X", "nothing"])
    found = stored(tmp_path / "b.h5")[-1].reshape(6, -1)
    assert (found == np.array([7, 7, 1, 7, 7, 7])[:, np.newaxis]).all()
    assert not stored(tmp_path / "b.h5", "nothing")[-1].any()


def write_virtual(folder):
    """A virtual dataset over two files in a folder below."""
    (folder / "parts").mkdir()
    layout = h5py.VirtualLayout((10, *SAMPLE_SHAPE), "u1")
    for number in range(2):
        name = f"parts/{number}.h5"
        write_video_file(folder / name, num_samples=5, first=5 * number)
        layout[5 * number : 5 * number + 5] = h5py.VirtualSource(name, "X", (5, *SAMPLE_SHAPE))
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_virtual_dataset("X", layout)
        file["other"] = 1
    return folder / "a.h5"


def write_external(folder):
    """Datasets whose bytes are in other files."""
    with h5py.File(folder / "a.h5", "w", driver="sec2") as file:
        for name in ("X", "other"):
            shape, data = (10, *SAMPLE_SHAPE), sample_values(np.arange(10))
            place = [(os.fspath(folder / f"{name}.raw"), 0, data.nbytes)]
            file.create_dataset(name, shape, "u1", external=place)
            file[name][...] = data
    return folder / "a.h5"


def test_virtual_and_external_datasets_become_plain_ones(tmp_path):
    for write in (write_virtual, write_external):
        folder = tmp_path / write.__name__
        (folder / "new").mkdir(parents=True)
        path = write(folder)
        if write is write_virtual:
            with h5py.File(path, "a") as file:
                layout = h5py.VirtualLayout((5, 4), "f4")
                layout[...] = h5py.VirtualSource("parts/1.h5", "Y", (5, 4))
                del file["other"]
                file.create_virtual_dataset("other", layout)
        report = repack(path, folder / "new/b.h5")
        assert not report.skipped
        with h5py.File(path) as old:
            expected = old["other"][()]
        shutil.rmtree(folder / "parts", ignore_errors=True)
        for raw in folder.glob("*.raw"):
            raw.unlink()
        assert_same(stored(folder / "new/b.h5")[-1], sample_values(np.arange(10)))
        assert_same(stored(folder / "new/b.h5", "other")[-1], expected)


@pytest.mark.parametrize(("root", "count"), [(None, 8), (30, 8), (30, None), (10, 8)], ids=str)
@pytest.mark.parametrize("num_files", [1, 2])
def test_sample_counts_of_groups(tmp_path, num_files, root, count):
    paths = [tmp_path / f"{number}.h5" for number in range(num_files)]
    for path in paths:
        write_video_file(path, num_samples=10)
        with h5py.File(path, "a") as file:
            file.move("X", "train/X")
            file["train/Y"] = file["test/Y"] = file["Y"][()]
            file["test/X"] = file["train/X"][()]
            del file.attrs["sample_count"]
            for name, number in (("/", root), ("train", count), ("test", 10)):
                if number is not None:
                    file[name].attrs["sample_count"] = number
    names = {"x": "train/X", "y": "train/Y", "shuffle": False}
    with VideoLoader(paths, **names) as loader:
        expected = list(loader)
    repack(paths, tmp_path / "new.h5", x="train/X")
    with VideoLoader(tmp_path / "new.h5", **names) as loader:
        assert loader.num_samples == num_files * (count or 10)
        for new, old in zip(loader, expected, strict=True):
            np.testing.assert_array_equal(new[0], old[0])
            np.testing.assert_array_equal(new[1], old[1])
    with h5py.File(tmp_path / "new.h5") as file:
        assert len(file["test/X"]) == file["test"].attrs["sample_count"] == 10
        assert file.attrs.get("sample_count") == root


def test_values_of_a_virtual_dataset_that_are_not_there(tmp_path):
    path = write_virtual(tmp_path)
    write_video_file(tmp_path / "b.h5", num_samples=10)
    with h5py.File(tmp_path / "b.h5", "a") as file:
        file["other"] = h5py.ExternalLink("a.h5", "X")
        layout = h5py.VirtualLayout((5, 4), "f4")
        layout[...] = h5py.VirtualSource("parts/1.h5", "Y", (5, 4))
        file.create_virtual_dataset("labels", layout)
    (tmp_path / "parts/1.h5").unlink()
    for name, dataset in (("a.h5", "X"), ("b.h5", "labels")):
        message = f"{name}: dataset '/{dataset}' maps to the source file 'parts/1.h5'"
        with pytest.raises(VideoFileNotFoundError, match=message):
            repack(tmp_path / name, tmp_path / "new.h5")
        assert not (tmp_path / "new.h5").exists()
    report = h5v.inspect(path)
    assert "'/X' maps to the source file 'parts/1.h5'" in report.problems[0]
    assert (report.datasets[0].storage, report.datasets[0].path) == ("virtual", "none")


@st.composite
def sets(draw):
    """Shape of a sample, dtype, and for each file: samples, `sample_count`, how it is stored."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple))
    dtype = draw(st.sampled_from(["u1", "<u2", ">u2", "f4", ">f8", "?"]))
    files = []
    for _ in range(draw(st.integers(1, 3))):
        length = draw(st.integers(1, 9))
        count = draw(st.one_of(st.none(), st.integers(0, length)))
        options = {}
        if draw(st.booleans()):
            longest = (length, *shape)
            options["chunks"] = tuple(draw(st.integers(1, n)) for n in longest)
            options["compression"] = draw(st.sampled_from([None, "gzip", "lzf"]))
            options["shuffle"] = draw(st.booleans())
        files.append((length, count, options))
    if not sum(length if count is None else count for length, count, _ in files):
        files.append((1, None, {}))
    return shape, dtype, files


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    sets(),
    st.sampled_from([None, "gzip", "lzf", "zstd"]),
    st.integers(1, 300),
    st.one_of(st.none(), st.integers(0, 3000)),
)
def test_any_set(case, compression, batch_bytes, read_ahead_bytes):
    shape, dtype, files = case
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples_of, "BATCH_BYTES", batch_bytes)
        patch.setattr(samples_of, "MAX_BATCH_BYTES", 4 * batch_bytes)
        paths, expected, ids = [], [], []
        for number, (length, count, options) in enumerate(files):
            paths.append(os.path.join(folder, f"{number}.h5"))
            values = noise((length, *shape), dtype, seed=number)
            names = [f"{number}/{i}" for i in range(length)]
            with h5py.File(paths[-1], "w") as file:
                file.create_dataset("clips/X", data=values, **options)
                file.create_dataset("id", data=names, dtype=h5py.string_dtype())
                if count is not None:
                    file.attrs["sample_count"] = count
            expected.append(values[:count])
            ids += names[:count]
        out = os.path.join(folder, "out.h5")
        report = repack(
            paths, out, x="clips/X", compression=compression, read_ahead_bytes=read_ahead_bytes
        )
        assert_same(stored(out, "clips/X")[-1], native(np.concatenate(expected)))
        with h5py.File(out) as file:
            assert file["id"].asstr()[:].tolist() == ids
            assert len(ids) == report.num_samples
            assert file.attrs.get("sample_count", len(ids)) == len(ids)


# --------------------------------------------------------------------------- several files


def test_several_files_become_one(tmp_path):
    for number, (count, options) in enumerate([(5, {}), (3, {"chunks": MANY, **GZIP}), (7, {})]):
        path = tmp_path / f"{number}.h5"
        if "chunks" in options:
            options["maxshape"] = (None,) * 5
        write_video_file(path, num_samples=count, first=100 * number, **options)
        with h5py.File(path, "a") as file:
            file["source"] = [f"{number}/{i}" for i in range(count)]
            file["camera"] = [number] * 2
            file.attrs["class_names"] = ["a", "b", "c", "d"]
            file.attrs["number"] = number
            if number == 2:
                file.attrs["sample_count"] = 4
                file["only/here"] = 1
    report = repack(str(tmp_path / "?.h5"), tmp_path / "out.h5")
    numbers = np.array([0, 1, 2, 3, 4, 100, 101, 102, 200, 201, 202, 203])
    assert_same(stored(tmp_path / "out.h5")[-1], sample_values(numbers))
    with h5py.File(tmp_path / "out.h5") as file:
        assert_same(file["Y"][()], labels(numbers, 4))
        found = file["source"].asstr()[:].tolist()
        assert found == [f"{n // 100}/{n % 100}" for n in numbers]
        assert file["camera"][:].tolist() == [0, 0]
        assert dict(file.attrs, class_names=None) == {
            "sample_count": 12,
            "class_names": None,
            "number": 0,
        }
    reason = "does not hold a value for each sample; the first file's is used"
    assert report.skipped == tuple(
        SkippedItem(f"dataset '{name}' of {tmp_path / path}", reason)
        for path, name in [("1.h5", "/camera"), ("2.h5", "/camera"), ("2.h5", "/only/here")]
    )
    repack([tmp_path / "2.h5", tmp_path / "0.h5"], tmp_path / "turned.h5")
    assert_same(stored(tmp_path / "turned.h5")[-1], sample_values([200, 201, 202, 203, *range(5)]))


def change(path, name, values):
    with h5py.File(path, "a") as file:
        if name in file:
            del file[name]
        if values is not None:
            file[name] = values


DIFFERENCES = {
    "no labels": ("Y", None, DatasetNotFoundError, "1.h5 has no dataset '/Y'"),
    "too few labels": ("Y", np.zeros((19, 4), "f4"), FileFormatError, r"\(19, 4\) in .*1.h5"),
    "wider labels": ("Y", np.zeros((20, 5), "f4"), FileFormatError, r"float32 .*\(20, 5\)"),
    "other labels": ("Y", np.zeros((20, 4), "f8"), FileFormatError, r"float64 .* 20 samples$"),
    "other samples": ("X", np.zeros((20, 4, 3, 8, 9), "u1"), FileFormatError, "alike in all files"),
}


@pytest.mark.parametrize("case", DIFFERENCES.values(), ids=DIFFERENCES)
def test_files_that_do_not_fit_together(tmp_path, case):
    name, values, error, message = case
    for number in range(2):
        write_video_file(tmp_path / f"{number}.h5")
    change(tmp_path / "1.h5", name, values)
    with pytest.raises(error, match=message):
        repack([tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "out.h5")
    assert files_in(tmp_path) == ["0.h5", "1.h5"]


def test_files_with_other_classes(tmp_path):
    for number, classes in enumerate(["abcd", "abdc"]):
        with h5py.File(write_video_file(tmp_path / f"{number}.h5"), "a") as file:
            file.attrs["class_names"] = list(classes)
    with pytest.raises(FileFormatError, match=r"`class_names` .* in .*0.h5, .* in .*1.h5"):
        repack(tmp_path / "*.h5", tmp_path / "out.h5")
    assert files_in(tmp_path) == ["0.h5", "1.h5"]


# --------------------------------------------------------------------------- reading and writing


@pytest.mark.parametrize("chunks", [ONE, MANY, (4, 2, 3, 8, 3), (7, 4, 3, 8, 8)])
def test_each_chunk_is_decoded_once_and_batches_are_small(tmp_path, monkeypatch, chunks):
    write_video_file(tmp_path / "a.h5", num_samples=60, chunks=chunks, **GZIP)
    monkeypatch.setattr(samples_of, "BATCH_BYTES", 3 * 768)
    append, decode_chunk, sizes, decoded = ContiguousFile.append, sources.decode_chunk, [], []

    def record(self, arrays):
        sizes.append(len(arrays[0]))
        append(self, arrays)

    def count(*arguments):
        decoded.append(1)
        decode_chunk(*arguments)

    monkeypatch.setattr(ContiguousFile, "append", record)
    for module in (sources, slabs):
        monkeypatch.setattr(module, "decode_chunk", count)
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


# --------------------------------------------------------------------------- the file appears whole


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt("stop")])
@pytest.mark.parametrize("options", [{}, {"chunks": "sample"}, {"compression": "gzip"}], ids=str)
def test_nothing_is_left_behind_by_a_failure(tmp_path, monkeypatch, error, options):
    write_video_file(tmp_path / "a.h5", chunks=MANY)
    out = tmp_path / "b.h5"
    out.write_bytes(b"the old one")
    note, seen = PartialFile._note, []

    def fail_at_the_second_batch(*arguments):
        note(*arguments)
        seen.append(files_in(tmp_path))
        if len(seen) == 2:
            raise error

    monkeypatch.setattr(samples_of, "BATCH_BYTES", 4 * 768)
    monkeypatch.setattr(PartialFile, "_note", fail_at_the_second_batch)
    expected = RepackingError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match=r"could not be written.*: Input/output error$|stop"):
        repack(tmp_path / "a.h5", out, overwrite=True, **options)
    assert seen[1][2:] == ["b.h5.partial", "b.h5.partial.journal"]
    assert files_in(tmp_path) == ["a.h5", "b.h5"]
    assert out.read_bytes() == b"the old one"
    repack(tmp_path / "a.h5", out, overwrite=True)
    assert_same(stored(out)[-1], sample_values(np.arange(20)))


@pytest.mark.parametrize("chunks", [None, "sample"])
def test_the_file_is_on_disk_and_whole_before_it_gets_its_name(tmp_path, monkeypatch, chunks):
    write_video_file(tmp_path / "a.h5")
    fsync, seen, note, done = os.fsync, [], PartialFile._note, []

    def record(descriptor):
        if done:
            number = os.fstat(descriptor).st_ino
            (whole,) = [p for p in tmp_path.glob("b.h5.partial*") if p.stat().st_ino == number]
            assert_same(stored(whole)[-1], sample_values(np.arange(20)))
            seen.append((tmp_path / "b.h5").exists())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(PartialFile, "_note", lambda *a: (note(*a), done.append(1)))
    repack(tmp_path / "a.h5", tmp_path / "b.h5", chunks=chunks)
    assert seen == [False]


def run_slowly(folder, *lines):
    """Starts `repack` in another process, with lines of code before the call."""
    before = "\n".join(lines)
    code = f"""
import sys, time
from h5video_data.tools import repack as repacking
from h5video_data.tools.packing.partial_files import PartialFile
from h5video_data.tools.repacking import sample_batches as samples_of
samples_of.BATCH_BYTES = 1 << 20
{before}
try:
    repacking.repack({str(folder / "a.h5")!r}, {str(folder / "b.h5")!r})
except Exception as error:
    sys.exit(f"{{type(error).__name__}}: {{error}}")
"""
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("change", [None, "source", "samples"])
def test_killed(tmp_path, monkeypatch, change):
    write_video_file(tmp_path / "a.h5", num_samples=30, sample_shape=(1 << 17,))
    process = run_slowly(
        tmp_path,
        "note = PartialFile._note",
        "def noted(file, line):",
        "    note(file, line)",
        "    if file.num_rows > 10: time.sleep(100)",
        "PartialFile._note = noted",
    )
    end = time.monotonic() + 60
    journal = tmp_path / "b.h5.partial.journal"
    while not journal.exists() or journal.read_text().count("\n") < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=250)
    assert files_in(tmp_path) == ["a.h5", "b.h5.partial", "b.h5.partial.journal"]
    numbers, options = np.arange(30), {}
    if change == "source":
        write_video_file(tmp_path / "a.h5", num_samples=30, sample_shape=(1 << 17,), first=7)
        numbers += 7
    if change == "samples":
        numbers, options = numbers[1:], {"indices": numbers[1:]}
    written, append = [], ContiguousFile.append

    def record(file, batch):
        written.append(file.num_rows)
        append(file, batch)

    monkeypatch.setattr(ContiguousFile, "append", record)
    repack(tmp_path / "a.h5", tmp_path / "b.h5", **options)
    assert_same(stored(tmp_path / "b.h5")[-1], sample_values(numbers, (1 << 17,)))
    assert (written[0] > 7) == (change is None)
    assert files_in(tmp_path) == ["a.h5", "b.h5"]


KILLED = {
    "contiguous": {},
    "several datasets": {"x": ["X", "more/flow"]},
    "chunks": {"chunks": "sample"},
    "gzip, several datasets": {"x": ["X", "more/flow"], "compression": "gzip"},
    "encoded by HDF5": {"compression": "bitshuffle"},
    "jpeg": {"x": "frames", "codec": "jpeg"},
    "variable rows": {"x": "frames", "codec": "jpeg", "rows": "variable"},
    "shards": {"shards": 3},
    "compressed shards": {"shards": 3, "compression": "lzf"},
    "half as large": {"image_size": [16, 16], "channels_last": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", KILLED.values(), ids=KILLED)
def test_killed_at_random_moments(tmp_path, arguments):
    write_video_file(
        tmp_path / "a.h5", num_samples=120, sample_shape=(4, 3, 32, 32), chunks=(5, 4, 3, 32, 32)
    )
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["more/flow"] = noise((120, 4, 2, 32, 32), "f4")
        file["frames"] = noise((120, 40, 60, 3))
        file["group"] = np.arange(120)
    script = Path(__file__).with_name("repack_killed_script.py")
    command = [sys.executable, str(script), str(tmp_path), "7", json.dumps(arguments)]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["most lines of journals"] > 1


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}], ids=str)
@pytest.mark.parametrize("is_changed", [False, True])
def test_shards_that_are_complete_are_not_written_again(tmp_path, monkeypatch, options, is_changed):
    path = write_video_file(tmp_path / "a.h5", num_samples=30)
    publish, seen = PartialFile._publish, []

    def stop_at_the_third(*arguments):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        publish(*arguments)

    monkeypatch.setattr(PartialFile, "_publish", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        repack(path, tmp_path / "b.h5", shards=3, **options)
    shards = [tmp_path / f"b-0000{number}-of-00003.h5" for number in range(3)]
    assert [shard.exists() for shard in shards] == [True, True, False]
    before = [os.stat(shard).st_mtime_ns for shard in shards[:2]]
    if is_changed:
        write_video_file(tmp_path / "a.h5", num_samples=30, first=5)
        with pytest.raises(ArgumentError, match=r"`out` exists\..*b-00000-of-00003.h5"):
            repack(path, tmp_path / "b.h5", shards=3, **options)
    repack(path, tmp_path / "b.h5", shards=3, overwrite=is_changed, **options)
    after = [os.stat(shard).st_mtime_ns for shard in shards[:2]]
    assert (before == after) != is_changed
    found = np.concatenate([stored(shard)[-1] for shard in shards])
    assert_same(found, sample_values(np.arange(30) + 5 * is_changed))
    assert files_in(tmp_path) == ["a.h5", *[shard.name for shard in shards]]


def test_a_shard_that_was_changed_is_not_taken_for_a_complete_one(tmp_path, monkeypatch):
    path = write_video_file(tmp_path / "a.h5", num_samples=30)
    shard = tmp_path / "b-00000-of-00002.h5"
    with monkeypatch.context() as patch:
        patch.setattr(PartialFile, "remove_journal", lambda _: None)
        repack(path, tmp_path / "b.h5", shards=2)
    repack(path, tmp_path / "b.h5", shards=2)  # both are complete
    with monkeypatch.context() as patch:
        patch.setattr(PartialFile, "remove_journal", lambda _: None)
        repack(path, tmp_path / "b.h5", shards=2, overwrite=True)
    with h5py.File(shard, "a") as file:
        file["X"][0] = 0
    with pytest.raises(ArgumentError, match=r"`out` exists\..*b-00000-of-00002.h5"):
        repack(path, tmp_path / "b.h5", shards=2)


def test_a_file_that_may_not_grow_is_removed(tmp_path):
    write_video_file(tmp_path / "a.h5", num_samples=30, sample_shape=(1 << 17,))
    process = run_slowly(
        tmp_path,
        "import resource",
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))",
    )
    _, message = process.communicate(timeout=250)
    assert message == (
        f"RepackingError: {tmp_path}/b.h5 could not be written, and nothing of it was left behind: "
        f"{os.strerror(errno.EFBIG)}\n"
    )
    assert process.returncode == 1
    assert files_in(tmp_path) == ["a.h5"]


def test_a_full_disk(tmp_path, monkeypatch):
    path = write_video_file(tmp_path / "a.h5", num_samples=20)
    free = shutil.disk_usage(tmp_path)._replace(free=20 * 768 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(RepackingError, match=r"b.h5 will have 15.0 KiB or more, .* 15.0 KiB free"):
        repack(path, tmp_path / "b.h5")
    assert files_in(tmp_path) == ["a.h5"]
    repack(path, tmp_path / "b.h5", compression="gzip")  # nobody knows how much that will be
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=20 * 768))
    repack(path, tmp_path / "c.h5")

    def fail(*_):
        raise OSError(errno.ENOSPC, "HDF5 says a lot")

    monkeypatch.setattr(ContiguousFile, "append", fail)
    with pytest.raises(RepackingError, match=r"nothing of it was left behind: No space left on"):
        repack(path, tmp_path / "d.h5")
    assert files_in(tmp_path) == ["a.h5", "b.h5", "c.h5"]
    assert issubclass(RepackingError, H5VideoError)
    assert issubclass(RepackingError, OSError)


def test_an_existing_file_is_replaced_only_on_request(tmp_path):
    write_video_file(tmp_path / "a.h5")
    out = tmp_path / "b.h5"
    out.write_bytes(b"the old one")
    with pytest.raises(ArgumentError, match=r"`out` exists\. Use overwrite=True .*: out='.*b.h5'$"):
        repack(tmp_path / "a.h5", out)
    assert out.read_bytes() == b"the old one"
    repack(tmp_path / "a.h5", out, overwrite=True)
    assert stored(out)[0] == "contiguous"


def test_a_file_that_is_read_is_never_replaced(tmp_path, monkeypatch):
    (tmp_path / "virtual").mkdir()
    (tmp_path / "raw").mkdir()
    virtual, external = write_virtual(tmp_path / "virtual"), write_external(tmp_path / "raw")
    path = Path(write_video_file(tmp_path / "a.h5"))
    (tmp_path / "soft.h5").symlink_to("a.h5")
    (tmp_path / "hard.h5").hardlink_to(path)
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["X"] = h5py.ExternalLink("a.h5", "/X")
    monkeypatch.chdir(tmp_path)
    cases = [
        (path, path),
        (path, "a.h5"),
        (path, "soft.h5"),
        (path, "hard.h5"),
        ("soft.h5", "a.h5"),
        ("?.h5", "a.h5"),
        ("linked.h5", "a.h5"),
        ("linked.h5", "linked.h5"),
        (virtual, tmp_path / "virtual/parts/1.h5"),
        (external, tmp_path / "raw/X.raw"),
    ]
    for source, out in cases:
        before = Path(out).read_bytes()
        with pytest.raises(ArgumentError, match=r"`out` must not be a file that is read, and is /"):
            repack(source, out, overwrite=True)
        assert Path(out).read_bytes() == before
    other = Path(write_video_file(tmp_path / "other.h5"))
    (tmp_path / "link.h5").symlink_to("other.h5")
    repack(path, "link.h5", overwrite=True)  # the link is replaced, not where it leads
    assert other.stat().st_mtime_ns < (tmp_path / "link.h5").stat().st_mtime_ns
    assert not (tmp_path / "link.h5").is_symlink()


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
    assert printed.out == f"{out}: 6 samples of X\n"
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
