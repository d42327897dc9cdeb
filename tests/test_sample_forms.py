"""Other forms of samples, that `repack` gives them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
from pack_helpers import contents, files_in

import h5video_data as h5v
from h5video_data.errors import (
    ArgumentError,
    DatasetNotFoundError,
    FileFormatError,
    RepackingError,
)
from h5video_data.tools.cli import main
from h5video_data.tools.packing.row_files import RowFile
from h5video_data.tools.repack import repack
from h5video_data.tools.repacking import frame_datasets
from h5video_data.tools.repacking.sample_forms import _resized


@pytest.fixture
def source(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (9, 4, 3, 8, 12), np.uint8)
    h5v.write_videos(tmp_path / "a.h5", x, np.arange(9))
    return tmp_path / "a.h5", x


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_channels_last(source, compression):
    path, x = source
    out = path.with_name("b.h5")
    repack(path, out, channels_last=True, compression=compression)
    data, attributes = contents(out)
    np.testing.assert_array_equal(data["X"], np.moveaxis(x, 2, -1))
    assert data["Y"].tolist() == list(range(9))
    assert attributes["sample_count"] == 9
    repack(out, path.with_name("c.h5"), channels_last=True)  # as they are already
    np.testing.assert_array_equal(contents(path.with_name("c.h5"))[0]["X"], data["X"])


def test_axes_of_two_meanings_are_an_error(tmp_path):
    h5v.write_videos(tmp_path / "a.h5", np.zeros((2, 4, 3, 8, 3), np.uint8))
    with pytest.raises(ArgumentError, match=r"could be either\. Received: channels_last=True"):
        repack(tmp_path / "a.h5", tmp_path / "b.h5", channels_last=True)
    assert files_in(tmp_path) == ["a.h5"]


@pytest.mark.parametrize("is_last", [True, False])
def test_image_size(source, is_last):
    path, x = source
    out = path.with_name("b.h5")
    repack(path, out, image_size=(4, 6), channels_last=is_last)
    expected = np.rint(x.reshape(9, 4, 3, 4, 2, 6, 2).mean(axis=(4, 6)))
    expected = np.moveaxis(expected, 2, -1) if is_last else expected
    found = contents(out)[0]["X"]
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_sizes_are_interpolated_and_keep_the_average():
    ramp = np.arange(10.0)[np.newaxis, :, np.newaxis] * np.ones((1, 10, 4))
    for rows in (3, 7, 10):
        found = _resized(ramp, (rows, 4), -2, np.dtype("f8"))
        assert found.mean() == pytest.approx(ramp.mean())
        assert (np.diff(found[0, :, 0]) > 0).all()
    found = _resized(ramp, (20, 4), -2, np.dtype("f8"))[0, :, 0]
    np.testing.assert_allclose(found[1:-1], np.arange(1, 19) / 2 - 0.25)


def test_floats_become_bytes(tmp_path):
    whole = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 4, 4))
    h5v.write_videos(tmp_path / "whole.h5", whole.astype("f4"))
    h5v.write_videos(tmp_path / "parts.h5", (whole / 255).astype("f4"))
    repack(tmp_path / "whole.h5", tmp_path / "a.h5", dtype="uint8")
    repack(tmp_path / "parts.h5", tmp_path / "b.h5", dtype="uint8", scale=255)
    for name in ("a.h5", "b.h5"):
        found = contents(tmp_path / name)[0]["X"]
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, whole)
    with pytest.raises(RepackingError, match=r"sample 0 of 'X' has 0\..* need scale=255"):
        repack(tmp_path / "parts.h5", tmp_path / "c.h5", dtype="uint8")
    with pytest.raises(RepackingError, match=r"0 to 255, multiplied; sample 0"):
        repack(tmp_path / "whole.h5", tmp_path / "c.h5", dtype="uint8", scale=255)
    h5v.write_videos(tmp_path / "nan.h5", np.full((1, 2, 3, 4, 4), np.nan))
    with pytest.raises(RepackingError, match="sample 0 of 'X' has nan"):
        repack(tmp_path / "nan.h5", tmp_path / "c.h5", dtype="uint8")
    assert "c.h5" not in files_in(tmp_path)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "blosc"])
def test_levels(source, compression):
    path, x = source
    smooth = np.repeat(x[:, :, :, :, :1], 12, axis=-1).repeat(9, axis=0)
    h5v.write_videos(path, smooth, overwrite=True)
    sizes = []
    for level in (0 if compression == "blosc" else 1, 9):
        repack(path, path.with_name("b.h5"), compression=compression, level=level, overwrite=True)
        with h5py.File(path.with_name("b.h5")) as file:
            sizes.append(file["X"].id.get_storage_size())
            np.testing.assert_array_equal(file["X"], smooth)
            if compression == "gzip":
                assert file["X"].compression_opts == level
    assert sizes[0] != sizes[1]
    with pytest.raises(ArgumentError, match=r"`level` of .* must be from .* level=99"):
        repack(path, path.with_name("c.h5"), compression=compression, level=99)
    with pytest.raises(ArgumentError, match=r"it has no levels.*level=1, compression='lzf'"):
        repack(path, path.with_name("c.h5"), compression="lzf", level=1)


@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_a_dry_run_says_the_size(source, compression, capsys):
    path, _ = source
    estimate = repack(path, path.with_name("b.h5"), compression=compression, dry_run=True).estimate
    assert files_in(path.parent) == ["a.h5"]
    repack(path, path.with_name("b.h5"), compression=compression)
    with h5py.File(path.with_name("b.h5")) as file:
        assert estimate.nbytes == pytest.approx(file["X"].id.get_storage_size(), rel=0.05)
    assert estimate.old_nbytes == path.stat().st_size
    assert estimate.seconds > 0
    command = ["repack", str(path), str(path.with_name("c.h5")), "--dry-run"]
    assert main(command) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert main([*command, "--json", "--codec", "gzip", "--level", "9"]) == 0
    assert json.loads(capsys.readouterr().out)["estimate"]["nbytes"] > 0


def frames_of(path, names, numbers):
    with h5py.File(path, "w") as file:
        for name, number in zip(names, numbers, strict=True):
            file[name] = np.full((4, 5, 3), number, np.uint8)


FRAMES = {
    "MCVD": ("*/*", [f"{i}/{t}" for i in range(2) for t in range(12)], [12, 12]),
    "event cameras": ("images/image*", [f"images/image{t:09}" for t in range(5)], [5]),
    "no zeros": ("frame_*", [f"frame_{t}" for t in range(12)], [12]),
}


@pytest.mark.parametrize("case", FRAMES.values(), ids=FRAMES)
def test_a_dataset_a_frame(tmp_path, case):
    pattern, names, lengths = case
    frames_of(tmp_path / "a.h5", names, range(len(names)))
    frames_of(tmp_path / "b.h5", names, range(100, 100 + len(names)))
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    report = repack(paths, tmp_path / "out.h5", x=pattern, layout="recordings")
    data, _ = contents(tmp_path / "out.h5")
    assert data["X"][:, 0, 0, 0].tolist() == [*range(len(names)), *range(100, 100 + len(names))]
    assert data["length"].tolist() == lengths * 2
    assert report.num_samples == 2 * len(lengths)
    windows = h5v.Windows(2, bounds="length")
    with h5v.VideoLoader(tmp_path / "out.h5", y=None, windows=windows) as loader:
        assert loader.num_samples == 2 * sum(length - 1 for length in lengths)


def test_a_dataset_a_frame_with_values(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(11):
            file[f"frame_{number}_x"] = np.full((4, 5, 3), number, np.uint8)
            file[f"frame_{number}_y"] = np.array([number, -number], np.float32)
    names = ["frame_*_x", "frame_*_y"]
    repack(tmp_path / "a.h5", tmp_path / "b.h5", x=names, layout="recordings")
    data, _ = contents(tmp_path / "b.h5")
    assert data["Y"].tolist() == [[n, -n] for n in range(11)]
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["frame_3_y"]
    with pytest.raises(FileFormatError, match=r"no 'frame_\*_y' for the frame 'frame_3_x'"):
        repack(tmp_path / "a.h5", tmp_path / "c.h5", x=names, layout="recordings")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["frame_3_y"] = [0, 0]
        del file["frame_5_x"]
        file["frame_5_x"] = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(FileFormatError, match=r"'frame_5_x' must be like .*shape \(4, 6, 3\)"):
        repack(tmp_path / "a.h5", tmp_path / "c.h5", x=names, layout="recordings")
    with pytest.raises(ArgumentError, match=r"with a \*.*Received: x=\['X'\]"):
        repack(tmp_path / "a.h5", tmp_path / "c.h5", layout="recordings")
    with pytest.raises(FileFormatError, match=r"'frame_5_x' must be like .*shape \(4, 6, 3\)"):
        repack(tmp_path / "a.h5", tmp_path / "c.h5", x=names, layout="recordings", dry_run=True)
    with pytest.raises(ArgumentError, match=r"without .*`shards`.*layout='recordings'"):
        repack(
            tmp_path / "a.h5", tmp_path / "c.h5", x=names, layout="recordings", subset="training"
        )
    assert files_in(tmp_path) == ["a.h5", "b.h5"]


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"codec": "png"}], ids=str)
@pytest.mark.parametrize("num_files", [1, 2])
def test_a_dataset_a_frame_with_attributes_and_others(tmp_path, options, num_files):
    for number in range(num_files):
        names = [f"images/image{t:09}" for t in range(70)]
        frames_of(tmp_path / f"{number}.h5", names, range(70))
        with h5py.File(tmp_path / f"{number}.h5", "a") as file:
            for t, name in enumerate(names):
                file[name].attrs.update(timestamp=t / 8 + number, kind="grey", size=[4, 5])
            file[names[3]].attrs["note"] = "dark"
            file["events/xs"] = np.arange(9) + number
            file["events"].attrs["unit"] = "pixels"
            file.create_dataset("events/ps", data=np.ones(9, "?"), chunks=(4,), compression="gzip")
            file["events/xs"].attrs["offset"] = 3
            file["names"] = ["a", "bc"]
            file["Y"] = np.zeros(3)
            file.attrs["camera"] = "left"
    layout = {"x": "images/image*", "layout": "recordings"}
    report = repack(sorted(tmp_path.glob("?.h5")), tmp_path / "out.h5", **layout, **options)
    with h5py.File(tmp_path / "out.h5") as file:
        times = np.concatenate([np.arange(70) / 8 + number for number in range(num_files)])
        assert file["timestamp"][()].tolist() == times.tolist()
        assert {*file["kind"].asstr()[()]} == {"grey"}
        assert file["size"][()].tolist() == [[4, 5]] * 70 * num_files
        for number in range(num_files):
            group = file["/"] if num_files == 1 else file[f"{number}.h5"]
            assert group["events/xs"][()].tolist() == (np.arange(9) + number).tolist()
            assert dict(group["events/xs"].attrs) == {"offset": 3}
            assert dict(group["events"].attrs) == {"unit": "pixels"}
            assert group["events/ps"].compression == "gzip"
            assert group["names"].asstr()[()].tolist() == ["a", "bc"]
            assert group.attrs["camera"] == "left"
            assert "images" not in group
    with h5v.VideoLoader(tmp_path / "out.h5", y=None, shuffle=False, batch_size=200) as loader:
        (x,) = loader
    assert x[:, 0, 0, 0].tolist() == [*range(70)] * num_files
    skipped = {item.name: item.reason for item in report.skipped}
    expected = {"attribute 'note' of frames": f"is that of {num_files} of {70 * num_files} frames"}
    if num_files == 1:
        name = f"'Y' of {tmp_path / '0.h5'}"
        expected[name] = "has a name that another dataset has in the new file"
    assert skipped == expected


def test_arguments_that_need_or_exclude_each_other(source):
    path, _ = source
    with pytest.raises(ArgumentError, match=r'for dtype="uint8" alone\. Received: scale=255, '):
        repack(path, path.with_name("b.h5"), scale=255)
    for options in ({"compression": "gzip"}, {"chunks": "sample"}):
        with pytest.raises(ArgumentError, match=r"neither compressed nor in chunks\. Received: "):
            repack(path, path.with_name("b.h5"), layout="contiguous", **options)
    assert files_in(path.parent) == ["a.h5"]


def test_frames_whose_names_match_nothing(tmp_path):
    frames_of(tmp_path / "a.h5", ["0/0", "0/1"], range(2))
    with pytest.raises(DatasetNotFoundError, match=r"a\.h5 has no dataset 'frame_\*'"):
        repack(tmp_path / "a.h5", tmp_path / "b.h5", x="frame_*", layout="recordings")
    assert files_in(tmp_path) == ["a.h5"]


def test_attributes_of_frames_that_become_no_dataset(tmp_path):
    frames_of(tmp_path / "a.h5", ["0/0", "0/1"], range(2))
    with h5py.File(tmp_path / "a.h5", "a") as file:
        for number in range(2):
            attributes = file[f"0/{number}"].attrs
            attributes.update(size=[1] * (1 + number), length=number)
            attributes["kind"] = "grey" if number else 3
            attributes["pair"] = np.array((1, 2.5), np.dtype([("a", "i2"), ("b", "f8")]))
            attributes["a/b"] = 1
    report = repack(tmp_path / "a.h5", tmp_path / "b.h5", x="*/*", layout="recordings")
    unlike = "is not alike for all frames"
    taken = "has a name that another dataset has in the new file"
    reasons = {"a/b": taken, "kind": unlike, "length": taken, "pair": unlike, "size": unlike}
    found = {item.name: item.reason for item in report.skipped}
    assert found == {f"attribute {name!r} of frames": why for name, why in reasons.items()}
    assert contents(tmp_path / "b.h5")[0]["length"].tolist() == [2]


@pytest.mark.parametrize("options", [{}, {"codec": "png"}], ids=str)
def test_frames_that_read_otherwise_are_noticed(tmp_path, monkeypatch, options):
    frames_of(tmp_path / "a.h5", ["0/0", "0/1", "0/2"], range(3))
    check = frame_datasets._check_frames

    def spoiled(complete, recordings, encoding):
        with h5py.File(complete, "a") as file:
            file["X"][2] = file["X"][0]
        check(complete, recordings, encoding)

    monkeypatch.setattr(frame_datasets, "_check_frames", spoiled)
    with pytest.raises(RepackingError, match=r"'0/2': h5py reads other values there than in row 2"):
        repack(tmp_path / "a.h5", tmp_path / "b.h5", x="*/*", layout="recordings", **options)
    assert files_in(tmp_path) == ["a.h5"]


KILLED = """
import os, signal, sys
import h5video_data as h5v
from h5video_data.tools.repacking import frame_datasets
commit, seen = frame_datasets.RowFile.commit, []
def kill(*arguments):
    commit(*arguments)
    seen.append(1)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
frame_datasets.RowFile.commit = kill
h5v.repack(sys.argv[1], sys.argv[2], x=["*/x*", "*/y*"], layout="recordings")
"""


@pytest.mark.slow
def test_datasets_that_are_frames_go_on_after_a_kill(tmp_path, monkeypatch):
    path, out = tmp_path / "a.h5", tmp_path / "out.h5"
    with h5py.File(path, "w") as file:
        for t in range(20):
            file[f"{t // 4}/x{t}"] = np.full((4, 5, 3), t, np.uint8)
            file[f"{t // 4}/y{t}"] = t
            file[f"{t // 4}/x{t}"].attrs["timestamp"] = t / 8
    command = [sys.executable, "-c", KILLED, str(path), str(out)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert files_in(tmp_path) == ["a.h5", "out.h5.partial", "out.h5.partial.journal"]
    appended = []

    def record(self, rows, append=RowFile.append):
        appended.append(len(rows))
        append(self, rows)

    monkeypatch.setattr(RowFile, "append", record)
    repack(path, out, x=["*/x*", "*/y*"], layout="recordings")
    assert appended == [4, 4]
    data, _ = contents(out)
    assert data["X"][:, 0, 0, 0].tolist() == data["Y"].tolist() == [*range(20)]
    assert data["timestamp"].tolist() == [t / 8 for t in range(20)]
    assert data["length"].tolist() == [4] * 5
    assert files_in(tmp_path) == ["a.h5", "out.h5"]
