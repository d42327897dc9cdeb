"""Layouts of what `repack` reads and of what it writes, and several files that become one."""

from __future__ import annotations

import os
import shutil
import tempfile

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repack_helpers import (
    GZIP,
    MANY,
    ONE,
    assert_same,
    change,
    files_in,
    native,
    noise,
    stored,
    write_external,
    write_virtual,
)

import h5video_data as h5v
from h5video_data.errors import (
    DatasetNotFoundError,
    FileFormatError,
    VideoFileNotFoundError,
)
from h5video_data.loader import VideoLoader
from h5video_data.testing import SAMPLE_SHAPE, labels, sample_values, write_video_file
from h5video_data.tools import repack as repacking
from h5video_data.tools.cli import main
from h5video_data.tools.repack import COMPRESSIONS, SkippedItem, repack
from h5video_data.tools.repacking import sample_batches as samples_of


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
