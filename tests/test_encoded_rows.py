"""Frames that `pack` and `repack` encode as JPEG or PNG."""

import io
import os
import signal
import subprocess
import sys

import h5py
import numpy as np
import PIL.Image
import pytest
from pack_helpers import STEP, contents, numbered, write_video
from repack_helpers import files_in

import h5video_data as h5v
from h5video_data.errors import ArgumentError, PackingError
from h5video_data.storage.picture_codecs import encode_picture
from h5video_data.storage.picture_header import PictureError
from h5video_data.tools.cli import main
from h5video_data.tools.pack import pack
from h5video_data.tools.packing.encoded_rows import Encoding, Saved, channel_axis

ROWS = ["fixed", "variable"]


def pictures(count, rows=24, columns=40, seed=0):
    """Smooth, coloured and each of other length when it is encoded; uint8 (n, ..., 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, rows // 8, columns // 8, 3)).astype(np.uint8)
    return np.repeat(np.repeat(coarse, 8, 1), 8, 2)


def decoded(frame, quality=95, codec="jpeg"):
    """What comes back of a frame that is encoded: by an independent decoder."""
    return np.asarray(PIL.Image.open(io.BytesIO(encode_picture(frame, codec, quality))))


def rows_of(path, name="X"):
    """The bytes of each row, as h5py reads them."""
    with h5py.File(path) as file:
        return [row if isinstance(row, bytes) else row.tobytes() for row in file[name]]


@pytest.fixture
def videos(tmp_path):
    write_video(tmp_path / "videos/a/v.mkv", [*pictures(10)])
    write_video(tmp_path / "videos/b/w.mkv", [*pictures(7, seed=1)])
    return tmp_path / "videos"


@pytest.mark.parametrize("rows", ROWS)
def test_pack(videos, tmp_path, rows):
    size = {"size": (24, 40), "layout": "recordings"}
    report = pack(videos, tmp_path / "a.h5", codec="jpeg", rows=rows, quality=80, **size)
    pack(videos, tmp_path / "raw.h5", **size)
    raw, _ = contents(tmp_path / "raw.h5")
    frames = np.moveaxis(raw.pop("X"), 1, -1)
    expected = [encode_picture(frame, "jpeg", 80) for frame in frames]
    assert len({*map(len, expected)}) > 1
    data, attributes = contents(tmp_path / "a.h5")
    assert rows_of(tmp_path / "a.h5") == expected
    assert data.pop("X").dtype == (object if rows == "variable" else f"S{max(map(len, expected))}")
    if rows == "fixed":
        assert data.pop("X_num_bytes").tolist() == [*map(len, expected)]
    assert {*data} == {*raw}
    for name, values in raw.items():
        np.testing.assert_array_equal(data[name], values)
    assert (attributes["codec"], attributes["quality"]) == ("jpeg", 80)
    nbytes = sum(map(len, expected)) if rows == "variable" else 17 * max(map(len, expected))
    assert report.saved == Saved("jpeg", 80, frames.nbytes, nbytes)
    windows = h5v.Windows(3, bounds="length")
    with h5v.VideoLoader(tmp_path / "a.h5", windows=windows, shuffle=False) as loader:
        x, y = next(iter(loader))
    anchors = [*range(8), *range(10, 15)]
    shown = np.stack([decoded(frame, 80) for frame in frames])
    np.testing.assert_array_equal(x, [shown[i : i + 3] for i in anchors])
    assert y.argmax(axis=1).tolist() == [0] * 8 + [1] * 5


@pytest.mark.parametrize("rows", ROWS)
def test_the_call_of_inspect_opens_it(videos, tmp_path, rows):
    pack(videos, tmp_path / "a.h5", codec="jpeg", rows=rows, layout="recordings")
    report = h5v.inspect(tmp_path / "a.h5")
    assert 'windows=h5v.Windows(8, bounds="length")' in report.call
    call = report.call.replace("video_dataset_from_hdf5", "VideoLoader")
    with eval(call, {"h5v": h5v}) as loader:
        assert len(loader) == 1
        assert loader[0][0].shape == (3, 8, 112, 112, 3)


def test_png_loses_nothing(videos, tmp_path):
    size = {"size": (24, 40), "layout": "recordings"}
    report = pack(videos, tmp_path / "a.h5", codec="png", **size)
    pack(videos, tmp_path / "raw.h5", **size)
    with h5v.VideoLoader(tmp_path / "a.h5", y=None, shuffle=False) as loader:
        (x,) = loader
    np.testing.assert_array_equal(np.moveaxis(x, -1, 1), contents(tmp_path / "raw.h5")[0]["X"])
    assert "PNG, without loss" in str(report.saved)
    assert "quality" not in contents(tmp_path / "a.h5")[1]


def test_pieces_of_long_videos(tmp_path, monkeypatch):
    monkeypatch.setattr("h5video_data.tools.packing.decoding.PIECE_BYTES", 500)
    monkeypatch.setattr("h5video_data.tools.packing.decoding.BUFFERED_BYTES", 700)
    monkeypatch.setattr("h5video_data.tools.packing.row_files._COPY_BYTES", 2000)
    for number in range(5):
        write_video(tmp_path / f"videos/a/{number}.mkv", numbered(3 + number * 2))
    for jobs in (1, 4):
        out = tmp_path / f"{jobs}.h5"
        pack(tmp_path / "videos", out, size=(8, 8), layout="recordings", codec="jpeg")
    assert rows_of(tmp_path / "1.h5") == rows_of(tmp_path / "4.h5")
    with h5v.VideoLoader(tmp_path / "1.h5", y=None, shuffle=False, batch_size=35) as loader:
        (x,) = loader
    found = np.rint(x.mean(axis=(1, 2, 3)) / STEP).tolist()
    assert found == [n for number in range(5) for n in range(3 + number * 2)]


def test_a_video_is_read_like_those_of_the_file(videos, tmp_path):
    pack(videos, tmp_path / "a.h5", codec="jpeg", size=(8, 16), layout="recordings", stride=2)
    clips = h5v.read_video(videos / "a/v.mkv", like=tmp_path / "a.h5")
    pack(videos, tmp_path / "raw.h5", size=(8, 16), layout="recordings", stride=2)
    raw = np.moveaxis(contents(tmp_path / "raw.h5")[0]["X"], 1, -1)
    np.testing.assert_array_equal(clips, raw[np.newaxis, :5])


CASES = {
    "clips": ({"codec": "jpeg"}, r'Use layout="recordings".*codec=\'jpeg\', layout=\'clips\''),
    "unknown": ({"codec": "gif"}, "codec='gif'"),
    "quality 101": ({"codec": "jpeg", "quality": 101}, "from 1 to 100.*quality=101"),
    "quality 0": ({"codec": "jpeg", "quality": 0}, "quality=0"),
    "quality of PNG": ({"codec": "png", "quality": 9}, "is that of a JPEG"),
    "quality alone": ({"quality": 9}, r"are for codec=.*quality=9"),
    "rows alone": ({"rows": "fixed"}, r"are for codec=.*rows='fixed'"),
    "rows": ({"codec": "jpeg", "rows": "both"}, "rows='both'"),
    "compression": ({"codec": "jpeg", "compression": "gzip"}, "not compressed again"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_arguments(videos, tmp_path, case):
    options, message = case
    with pytest.raises(ArgumentError, match=message):
        pack(videos, tmp_path / "a.h5", **options)
    assert files_in(tmp_path) == ["videos"]


def test_the_command_line(videos, tmp_path, capsys):
    arguments = ["pack", str(videos), str(tmp_path / "a.h5"), "--codec", "jpeg"]
    assert main(arguments) == 1
    assert "Use --layout recordings. Received: --codec jpeg" in capsys.readouterr().err
    assert main([*arguments, "--layout", "recordings", "--quality", "70"]) == 0
    line = capsys.readouterr().out
    assert "KiB as JPEG of quality 70, with some loss, where raw frames have 624.8 KiB" in line
    assert main(["pack", str(videos), str(tmp_path / "b.h5"), "--codec", "lzf"]) == 1
    assert "is too short" in capsys.readouterr().err  # that is all: lzf is a compression


AXES = {(8, 9): None, (3, 8, 9): 0, (1, 8, 9): 0, (8, 9, 3): 2, (8, 9, 1): 2, (8, 9, 4): 2}


@pytest.mark.parametrize("shape", AXES, ids=str)
def test_axis_of_channels(shape):
    assert channel_axis(shape) == AXES[shape]


@pytest.mark.parametrize("shape", [(3, 8, 3), (16, 8, 9), (16, 3, 8, 9), (8,)], ids=str)
def test_no_frames(shape):
    with pytest.raises(PackingError, match=r"A frame must be \(rows, columns\)"):
        channel_axis(shape)


def test_what_the_codec_does_not_encode():
    with pytest.raises(PackingError, match="a JPEG holds uint8") as caught:
        Encoding("jpeg", 95, "fixed").encode(np.zeros((8, 9), np.uint16))
    assert isinstance(caught.value.__cause__, PictureError)


KILLED = """
import os, signal, sys
from h5video_data.tools import pack as packing
read = packing.read_source
def read_source(source, *arguments):
    if source.name == "a/5.mkv":
        import time; time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)
    yield from read(source, *arguments)
packing.read_source = read_source
packing.pack(sys.argv[1], sys.argv[2], layout="recordings", codec="jpeg", num_jobs=1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"rows": "variable"}, {"quality": 50}], ids=str)
def test_it_goes_on_after_a_kill(tmp_path, monkeypatch, options):
    for number in range(8):
        write_video(tmp_path / f"videos/a/{number}.mkv", [*pictures(3 + number)])
    folder, out = str(tmp_path / "videos"), str(tmp_path / "out.h5")
    command = [sys.executable, "-c", KILLED, folder, out]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert os.path.getsize(tmp_path / "out.h5.partial")
    read = []
    read_source = sys.modules["h5video_data.tools.pack"].read_source

    def record(source, *arguments):
        read.append(source.name)
        return read_source(source, *arguments)

    monkeypatch.setattr("h5video_data.tools.pack.read_source", record)
    pack(folder, out, layout="recordings", codec="jpeg", **options)
    # Rows of another quality are made anew; how they are kept is decided at the end.
    assert len(read) == (8 if "quality" in options else 3)
    pack(folder, tmp_path / "whole.h5", layout="recordings", codec="jpeg", **options)
    assert rows_of(out) == rows_of(tmp_path / "whole.h5")
    assert files_in(tmp_path) == ["out.h5", "videos", "whole.h5"]
