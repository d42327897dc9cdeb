from __future__ import annotations

import shlex

import h5py
import imagecodecs
import numpy as np
import pytest
from repack_helpers import files_in

import h5video_data as h5v
from h5video_data.errors import ArgumentError, DatasetNotFoundError
from h5video_data.loader import VideoLoader
from h5video_data.tools.cli import main
from h5video_data.tools.packing.encoded_rows import Encoding
from h5video_data.tools.packing.partial_files import PartialFile
from h5video_data.tools.packing.row_files import RowFile
from h5video_data.tools.repack import repack
from h5video_data.tools.repacking import sample_batches

LENGTHS = (5, 9, 12)
X, Y = "data/*/obs/view", "data/*/actions"


def frames_of(number):
    rows, columns = np.mgrid[:24, :32]
    steps = np.arange(LENGTHS[number])[:, np.newaxis, np.newaxis]
    channels = [rows * 3 + steps * 5, columns * 2 + number + 0 * steps, rows + columns + 9 * steps]
    return np.stack(np.broadcast_arrays(*channels), -1).astype(np.uint8)


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number, length in enumerate(LENGTHS):
            group = file.create_group(f"data/demo_{number}")
            chunks = (min(4, length), 24, 32, 3)
            group.create_dataset("obs/view", data=frames_of(number), chunks=chunks, compression=4)
            group["obs/view"].attrs["camera"] = number
            group["actions"] = np.arange(length)[:, np.newaxis] + 100.0 * number
            group.attrs["num_samples"] = length
        file["data/alias"] = h5py.SoftLink("/data/demo_0/actions")
        file["mask/train"] = np.array([b"demo_0", b"demo_2"])
    return tmp_path / "a.h5"


def windows_of(path, **options):
    with VideoLoader(path, x=X, y=Y, windows=3, shuffle=False, batch_size=4, **options) as loader:
        batches = list(loader)
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))


def as_jpeg(frames):
    rows = [Encoding("jpeg", 95, "fixed").encode(frame) for frame in frames]
    return np.stack([imagecodecs.jpeg_decode(row) for row in rows])


OPTIONS = {
    "contiguous": {},
    "gzip": {"compression": "gzip", "level": 9},
    "bitshuffle": {"compression": "bitshuffle"},
    "chunks": {"chunks": "sample"},
    "png": {"codec": "png"},
    "jpeg": {"codec": "jpeg"},
    "jpeg, variable rows": {"codec": "jpeg", "rows": "variable"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_each_recording_keeps_its_name(path, options):
    out = path.with_name("b.h5")
    report = repack(path, out, x=X, **options)
    assert (report.num_samples, report.names, report.skipped) == (3, (X,), ())
    expected, labels = windows_of(path)
    x, y = windows_of(out)
    if options.get("codec") == "jpeg":
        whole = [as_jpeg(frames_of(number)) for number in range(3)]
        expected = np.concatenate(
            [[frames[i : i + 3] for i in range(len(frames) - 2)] for frames in whole]
        )
        assert report.saved.nbytes < report.saved.raw_nbytes
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(y, labels)
    with h5py.File(out) as file:
        assert file["data/demo_1"].attrs["num_samples"] == 9
        assert file["data/demo_2/obs/view"].attrs["camera"] == 2
        assert file["mask/train"][:].tolist() == [b"demo_0", b"demo_2"]
        assert file["data"].get("alias", getlink=True).path == "/data/demo_0/actions"
        view = file["data/demo_1/obs/view"]
        if "codec" not in options:
            assert view.chunks == (None if options == {} else (1, 24, 32, 3))
            np.testing.assert_array_equal(view, frames_of(1))
    assert files_in(path.parent) == ["a.h5", "b.h5"]


def test_frames_of_another_form(path):
    out = path.with_name("b.h5")
    repack(path, out, x=X, image_size=(12, 16), codec="png")
    x, _ = windows_of(out)
    assert x.shape[1:] == (3, 12, 16, 3)
    means = frames_of(0)[0].reshape(12, 2, 16, 2, 3).mean(axis=(1, 3))
    assert np.abs(x[0, 0] - means).max() <= 0.5


def test_the_call_of_inspect_opens_it(path):
    out = path.with_name("b.h5")
    assert main(["repack", str(path), str(out), "--x", X, "--codec", "jpeg", "--quiet"]) == 0
    assert h5v.inspect(path).call == h5v.inspect(out).call.replace("b.h5", "a.h5")


@pytest.mark.parametrize("options", [{}, {"codec": "jpeg"}, {"compression": "lzf"}], ids=str)
def test_it_goes_on(path, monkeypatch, options):
    monkeypatch.setattr(sample_batches, "BATCH_BYTES", 2 * 24 * 32 * 3)
    monkeypatch.setattr(sample_batches, "MAX_BATCH_BYTES", 2 * 24 * 32 * 3)
    whole, out = path.with_name("whole.h5"), path.with_name("b.h5")
    repack(path, whole, x=X, **options)
    note, append, seen = PartialFile._note, RowFile.append, []

    class Killed(BaseException):
        pass

    def stop(file, line):
        note(file, line)
        seen.append(1)
        if len(seen) == 6:  # in the second recording: 3 batches of the first, and 3
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(PartialFile, "_note", stop)
        patch.setattr("pathlib.Path.unlink", lambda *_, **__: None)  # as if nothing were tidied up
        with pytest.raises(Killed):
            repack(path, out, x=X, **options)
    appended = []
    monkeypatch.setattr(
        RowFile, "append", lambda file, rows: (append(file, rows), appended.append(len(rows)))
    )
    repack(path, out, x=X, **options)
    assert sum(appended) == sum(LENGTHS) - 5 - 6
    for found, expected in zip(windows_of(out), windows_of(whole), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert files_in(path.parent) == ["a.h5", "b.h5", "whole.h5"]


def test_what_is_not_for_recordings(path, tmp_path):
    out = tmp_path / "b.h5"
    with pytest.raises(ArgumentError, match=r"repacked whole, without .*x=\['data/\*/obs/view'\]"):
        repack(path, out, x=X, shards=2)
    with pytest.raises(ArgumentError, match="'data/demo_0/obs/view' is a recording already"):
        repack(path, out, x=X, layout="recordings")
    with pytest.raises(ArgumentError, match=r"file by file, .*1 file, x=\['data/.*, 'mask/train'"):
        repack(path, out, x=[X, "mask/train"])
    with pytest.raises(DatasetNotFoundError, match=r"no dataset 'none/\*'"):
        repack(path, out, x="none/*")
    assert files_in(tmp_path) == ["a.h5"]


def test_recordings_of_which_some_or_all_frames_are_not_there(path, tmp_path):
    out = tmp_path / "b.h5"
    with h5py.File(path, "a") as file:
        file["data/demo_1"].attrs["sample_count"] = 4
        file.create_group("empty/0")["view"] = np.zeros((0, 24, 32, 3), np.uint8)
    with pytest.raises(ArgumentError, match="leaves out frames of 'data/demo_1/obs/view'; repack"):
        repack(path, out, x=X)
    with pytest.raises(
        ArgumentError, match=r"there are no frames\. Received: x=\['empty/\*/view'\]"
    ):
        repack(path, out, x="empty/*/view")
    assert files_in(tmp_path) == ["a.h5"]


def test_a_file_that_recordings_are_read_from_is_not_replaced(path, tmp_path):
    with h5py.File(path, "a") as file, h5py.File(tmp_path / "c.h5", "w") as other:
        file.move("data/demo_1", "gone")
        del file["gone"]
        other["obs/view"] = frames_of(1)
        file["data/demo_1"] = h5py.ExternalLink("c.h5", "/")
    before = (tmp_path / "c.h5").read_bytes()
    with pytest.raises(ArgumentError, match=r"c\.h5"):
        repack(path, tmp_path / "c.h5", x=X, overwrite=True)
    assert (tmp_path / "c.h5").read_bytes() == before


def test_a_star_may_be_a_part_of_a_name(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X*"] = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert repack(tmp_path / "a.h5", tmp_path / "b.h5", x="X*").num_samples == 2


def test_the_advice_of_inspect_for_recordings(tmp_path, capsys):
    path, out = tmp_path / "a.h5", tmp_path / "a_fast.h5"
    with h5py.File(path, "w") as file:
        for number in range(7):
            shape = (60 + number, 24, 32, 3)
            data = np.full(shape, number, np.uint8)
            file.create_dataset(f"data/demo_{number}/view", data=data, chunks=shape, compression=4)
            file[f"data/demo_{number}/actions"] = np.arange(60.0 + number)
    (advice,) = h5v.inspect(path, read_ahead_bytes=0).advice
    assert advice.command == f"h5video-data repack {path} {out} --x 'data/demo_*/view'"
    assert len(advice.datasets) == 7
    assert main(shlex.split(advice.command)[1:]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 7 recordings of data/demo_*/view, ")
    assert h5v.inspect(out, read_ahead_bytes=0).advice == ()
    # A pattern that would also take something else is no advice.
    with h5py.File(path, "a") as file:
        file["data/demo_last/view"] = np.zeros(3)
    assert not any("*" in str(item) for item in h5v.inspect(path, read_ahead_bytes=0).advice)


def test_datasets_of_one_group_and_length_are_no_recordings(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("X1", "X2"):
            data = np.ones((60, 4, 24, 32), np.uint8)
            file.create_dataset(name, data=data, chunks=data.shape, compression="lzf")
    (advice,) = h5v.inspect(tmp_path / "a.h5", read_ahead_bytes=0).advice
    assert advice.command is None or advice.command.endswith("--x X1 --x X2")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.attrs["sample_count"] = 50
        file.copy("X1", "0/X")
        file.copy("X2", "1/X")
    # `repack` would take frames that are left out for those of recordings.
    assert not any("*" in str(a) for a in h5v.inspect(tmp_path / "a.h5", read_ahead_bytes=0).advice)
