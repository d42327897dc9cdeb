"""Frames that `pack` and `repack` encode as JPEG or PNG."""

import errno
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
from h5video_data.errors import ArgumentError, PackingError, ReadError, RepackingError
from h5video_data.storage.pictures.codecs import encode_picture
from h5video_data.storage.pictures.header import PictureError
from h5video_data.tools.cli import main
from h5video_data.tools.pack import pack
from h5video_data.tools.packing import partial_files, row_files
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
    monkeypatch.setattr("h5video_data.tools.packing.row_files.COPY_BYTES", 2000)
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


# Repack


def write_frames(path, frames, name="X", **others):
    with h5py.File(path, "w") as file:
        for key, values in {name: frames, **others}.items():
            file[key] = values
        file[name].attrs["unit"] = "grey levels"
    return path


def read_frames(path, x="X", **options):
    with h5v.VideoLoader(path, x=x, y=None, shuffle=False, batch_size=1000, **options) as loader:
        (found,) = loader
    return found


FRAMES = {
    "channels last": pictures(40),
    "channels first": np.moveaxis(pictures(40), -1, 1),
    "one channel": pictures(40)[..., :1],
    "grey": pictures(40)[..., 0],
}


@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("rows", ROWS)
def test_repack(tmp_path, monkeypatch, frames, rows):
    monkeypatch.setattr("h5video_data.tools.repacking.sample_batches.BATCH_BYTES", 9000)
    monkeypatch.setattr("h5video_data.tools.packing.row_files.COPY_BYTES", 9000)
    lengths = np.array([15, 25])
    path = write_frames(tmp_path / "a.h5", frames, length=lengths, action=np.arange(40))
    report = h5v.repack(path, tmp_path / "b.h5", codec="jpeg", rows=rows, layout="recordings")
    plain = frames
    if frames.ndim == 4:
        plain = np.moveaxis(frames, 1, -1) if frames.shape[1] == 3 else frames
        plain = plain[..., 0] if plain.shape[-1] == 1 else plain
    expected = [encode_picture(frame) for frame in plain]
    assert rows_of(tmp_path / "b.h5") == expected
    shown = np.stack([*map(decoded, plain)])
    found = read_frames(tmp_path / "b.h5")
    np.testing.assert_array_equal(found, shown.reshape(found.shape))
    data, _ = contents(tmp_path / "b.h5")
    assert data["length"].tolist() == [15, 25]
    assert data["action"].tolist() == [*range(40)]
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["X"].attrs["unit"] == "grey levels"
    if rows == "fixed":
        assert data["X_num_bytes"].tolist() == [*map(len, expected)]
    nbytes = sum(map(len, expected)) if rows == "variable" else 40 * max(map(len, expected))
    assert report.saved == Saved("jpeg", 95, frames.nbytes, nbytes)
    assert report.skipped == ()
    assert 'bounds="length"' in h5v.inspect(tmp_path / "b.h5").call


def test_repack_of_several_cameras_and_files(tmp_path):
    cameras = [pictures(9), pictures(9, seed=1)[:, :16]]
    for number in range(2):
        some = {"front": cameras[0][number::2], "hand": cameras[1][number::2]}
        write_frames(tmp_path / f"{number}.h5", some.pop("front"), "front", **some)
    h5v.repack(tmp_path / "?.h5", tmp_path / "all.h5", x=["front", "hand"], codec="png")
    for name, frames in zip(("front", "hand"), cameras, strict=True):
        expected = np.concatenate([frames[::2], frames[1::2]])
        np.testing.assert_array_equal(read_frames(tmp_path / "all.h5", name), expected)


def test_repack_to_another_size_and_from_floats(tmp_path):
    frames = np.random.default_rng(0).random((6, 24, 32, 3), np.float32)
    path = write_frames(tmp_path / "a.h5", frames)
    with pytest.raises(ArgumentError, match=r"JPEG holds uint8; use dtype=.*rows of float32"):
        h5v.repack(path, tmp_path / "b.h5", codec="jpeg")
    options = {"dtype": "uint8", "scale": 255.0, "image_size": (12, 16)}
    h5v.repack(path, tmp_path / "raw.h5", **options)
    h5v.repack(path, tmp_path / "b.h5", codec="jpeg", **options)
    raw = contents(tmp_path / "raw.h5")[0]["X"]
    np.testing.assert_array_equal(read_frames(tmp_path / "b.h5"), np.stack([*map(decoded, raw)]))


@pytest.mark.parametrize("kind", ["strings", "variable", "padded"])
@pytest.mark.parametrize("codec", ["jpeg", "png"])
def test_pictures_become_raw_frames(tmp_path, kind, codec):
    frames = pictures(20)
    rows = [encode_picture(frame, codec) for frame in frames]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["length"] = [5, 15]
        if kind == "variable":
            variable = file.create_dataset("X", 20, h5py.vlen_dtype(np.uint8))
            for number, row in enumerate(rows):
                variable[number] = np.frombuffer(row, np.uint8)
        else:
            file["X"] = np.array(rows, "S")
            if kind == "padded":
                padded = file["X"][:].view("u1").reshape(20, -1)
                del file["X"]
                file["X"] = padded
                file["X_num_bytes"] = [*map(len, rows)]
    decode = "image" if kind == "padded" else "auto"
    report = h5v.repack(tmp_path / "a.h5", tmp_path / "b.h5", decode=decode)
    data, _ = contents(tmp_path / "b.h5")
    np.testing.assert_array_equal(data["X"], [decoded(frame, codec=codec) for frame in frames])
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["X"].chunks is None
    skipped = {item.name: item.reason for item in report.skipped}
    reason = "says how long the rows were before they were decoded"
    assert skipped == ({"dataset '/X_num_bytes'": reason} if kind == "padded" else {})
    layout = {"layout": "sample-chunks", "compression": "gzip"}
    h5v.repack(tmp_path / "a.h5", tmp_path / "c.h5", decode=decode, **layout)
    np.testing.assert_array_equal(contents(tmp_path / "c.h5")[0]["X"], data["X"])


def test_padded_rows_are_copied_as_they_are_unless_asked(tmp_path):
    rows = np.array([encode_picture(frame) for frame in pictures(5)], "S")
    padded = rows.view("u1").reshape(5, -1)
    path = write_frames(tmp_path / "a.h5", padded)
    h5v.repack(path, tmp_path / "b.h5")
    np.testing.assert_array_equal(contents(tmp_path / "b.h5")[0]["X"], padded)


def test_pictures_of_other_sizes_become_alike(tmp_path):
    rows = [encode_picture(np.full((8 + 2 * n, 9, 3), 40 * n, np.uint8), "png") for n in range(4)]
    path = write_frames(tmp_path / "a.h5", np.array(rows, "S"))
    with pytest.raises(ReadError, match=r"PNG of .* `image_size=\(8, 9\)` resizes"):
        h5v.repack(path, tmp_path / "b.h5")
    h5v.repack(path, tmp_path / "b.h5", image_size=(8, 9))
    found = contents(tmp_path / "b.h5")[0]["X"]
    np.testing.assert_array_equal(found, np.broadcast_to(found[:, :1, :1], (4, 8, 9, 3)))
    assert found[:, 0, 0, 0].tolist() == [0, 40, 80, 120]


def test_pictures_are_encoded_anew_for_a_reason_only(tmp_path):
    frames = pictures(5)
    path = write_frames(tmp_path / "raw.h5", frames)
    h5v.repack(path, tmp_path / "a.h5", codec="jpeg")
    with pytest.raises(ArgumentError, match=r"'X' holds frames that are JPEG already.*codec="):
        h5v.repack(tmp_path / "a.h5", tmp_path / "b.h5", codec="jpeg")
    h5v.repack(tmp_path / "a.h5", tmp_path / "b.h5", codec="png")
    np.testing.assert_array_equal(read_frames(tmp_path / "b.h5"), read_frames(tmp_path / "a.h5"))
    h5v.repack(tmp_path / "a.h5", tmp_path / "c.h5", codec="jpeg", image_size=(12, 20))
    assert read_frames(tmp_path / "c.h5").shape == (5, 12, 20, 3)
    data, _ = contents(tmp_path / "c.h5")
    assert data["X_num_bytes"].tolist() == [*map(len, rows_of(tmp_path / "c.h5"))]


def test_a_damaged_picture_is_an_error(tmp_path):
    rows = [encode_picture(frame) for frame in pictures(5)]
    rows[3] = rows[3][:-60]
    path = write_frames(tmp_path / "a.h5", np.array(rows, "S"))
    for options in ({}, {"codec": "png"}):
        with pytest.raises(ReadError, match=r"a\.h5.*'/X'.*3.*cut short"):
            h5v.repack(path, tmp_path / "b.h5", **options)
    assert files_in(tmp_path) == ["a.h5"]


REPACK_CASES = {
    "clips": ((5, 4, 3, 8, 9), {"codec": "jpeg"}, r"frames, not clips.*layout=\"recordings\""),
    "no frames": ((5, 7, 8, 9), {"codec": "jpeg"}, r"\(7, 8, 9\) is not, or could be"),
    "padded pictures": ((5, 900), {"codec": "jpeg"}, 'decoded with decode="image"'),
    "two readings": ((5, 3, 8, 3), {"codec": "png"}, r"\(3, 8, 3\) is not, or could be"),
    "four channels": ((5, 8, 9, 4), {"codec": "jpeg"}, r"has 1 or 3 channels.*\(8, 9, 4\)"),
    "chunks": ((5, 8, 9), {"codec": "png", "chunks": "sample"}, "without chunks"),
    "layout": ((5, 8, 9), {"codec": "png", "layout": "contiguous"}, "layout='contiguous'"),
    "compression": ((5, 8, 9), {"codec": "png", "compression": "lzf"}, "compressed again"),
    "level": ((5, 8, 9), {"codec": "png", "level": 3}, "`level`.*level=3"),
    "decode": ((5, 8, 9), {"decode": "jpeg"}, "decode='jpeg'"),
}


@pytest.mark.parametrize("case", REPACK_CASES.values(), ids=REPACK_CASES)
def test_arguments_of_repack(tmp_path, case):
    shape, options, message = case
    path = write_frames(tmp_path / "a.h5", np.zeros(shape, np.uint8))
    with pytest.raises(ArgumentError, match=message):
        h5v.repack(path, tmp_path / "b.h5", **options)
    assert files_in(tmp_path) == ["a.h5"]


def test_a_name_that_is_taken(tmp_path):
    path = write_frames(tmp_path / "a.h5", pictures(5), X_num_bytes=np.arange(5))
    with pytest.raises(ArgumentError, match=r"'X_num_bytes' is to hold.*rows=\"variable\""):
        h5v.repack(path, tmp_path / "b.h5", codec="jpeg")
    h5v.repack(path, tmp_path / "b.h5", codec="jpeg", rows="variable")
    assert contents(tmp_path / "b.h5")[0]["X_num_bytes"].tolist() == [*range(5)]


def test_a_row_that_is_not_as_it_was_encoded_is_noticed(tmp_path, monkeypatch):
    path = write_frames(tmp_path / "a.h5", pictures(5))
    values = row_files.encoded_values
    monkeypatch.setattr(row_files, "encoded_values", lambda rows, d: values(rows[::-1], d))
    with pytest.raises(RepackingError, match=r"sample 0: h5py reads other"):
        h5v.repack(path, tmp_path / "b.h5", codec="jpeg")
    assert files_in(tmp_path) == ["a.h5"]


def test_a_full_disk(tmp_path, monkeypatch):
    path = write_frames(tmp_path / "a.h5", pictures(5))

    def fail(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(partial_files, "write_at", fail)
    with pytest.raises(RepackingError, match="No space left on device"):
        h5v.repack(path, tmp_path / "b.h5", codec="jpeg")
    assert files_in(tmp_path) == ["a.h5"]


def test_datasets_that_are_frames_become_jpegs(tmp_path):
    frames = pictures(12)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number, frame in enumerate(frames):
            file[f"images/{number // 7}/{number}"] = frame
    options = {"x": "images/*/*", "layout": "recordings", "codec": "jpeg"}
    report = h5v.repack(tmp_path / "a.h5", tmp_path / "b.h5", **options)
    assert rows_of(tmp_path / "b.h5") == [*map(encode_picture, frames)]
    assert contents(tmp_path / "b.h5")[0]["length"].tolist() == [7, 5]
    assert report.saved.raw_nbytes == frames.nbytes


def test_repack_on_the_command_line(tmp_path, capsys):
    path = str(write_frames(tmp_path / "a.h5", pictures(5)))
    assert main(["repack", path, str(tmp_path / "b.h5"), "--codec", "jpeg", "--dry-run"]) == 0
    assert "would take" in capsys.readouterr().out
    assert main(["repack", path, str(tmp_path / "b.h5"), "--codec", "jpeg"]) == 0
    assert "KiB as JPEG of quality 95, with some loss" in capsys.readouterr().out
    assert main(["repack", str(tmp_path / "b.h5"), str(tmp_path / "c.h5"), "--codec", "none"]) == 0
    expected = np.stack([*map(decoded, pictures(5))])
    np.testing.assert_array_equal(contents(tmp_path / "c.h5")[0]["X"], expected)
    assert main(["repack", str(tmp_path / "c.h5"), str(tmp_path / "d.h5"), "--codec", "gzip"]) == 0
    with h5py.File(tmp_path / "d.h5") as file:
        assert file["X"].compression == "gzip"


@pytest.mark.parametrize(
    ("flags", "compression"),
    [
        (["--codec", "gzip"], "gzip"),
        (["--compression", "gzip"], "gzip"),
        (["--compression", "lzf", "--codec", "lzf"], "lzf"),
        (["--compression", "gzip", "--codec", "none"], "gzip"),
        (["--compression", "none"], None),
        (["--compression", "lzf", "--codec", "gzip"], "--compression lzf, --codec gzip"),
        (["--compression", "none", "--codec", "gzip"], "--compression none, --codec gzip"),
        (["--compression", "gzip", "--codec", "png"], "--codec png, --compression gzip"),
    ],
    ids=str,
)
def test_compression_and_codec_are_two_flags_for_one_thing(tmp_path, capsys, flags, compression):
    path = str(write_frames(tmp_path / "a.h5", pictures(5)))
    status = main(["repack", path, str(tmp_path / "b.h5"), *flags])
    if status:
        assert f"Received: {compression}" in capsys.readouterr().err
    else:
        with h5py.File(tmp_path / "b.h5") as file:
            assert file["X"].compression == compression


KILLED_REPACK = """
import os, signal, sys
import h5video_data as h5v
from h5video_data.tools.packing.row_files import RowFile
from h5video_data.tools.repacking import sample_batches
sample_batches.BATCH_BYTES = 5 * 24 * 40 * 3
commit, seen = RowFile.commit, []
def kill(*arguments):
    commit(*arguments)
    seen.append(1)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
RowFile.commit = kill
h5v.repack(sys.argv[1], sys.argv[2], codec="jpeg")
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_changed", [False, True])
def test_repack_goes_on_after_a_kill(tmp_path, monkeypatch, is_changed):
    path, out = write_frames(tmp_path / "a.h5", pictures(40)), tmp_path / "b.h5"
    command = [sys.executable, "-c", KILLED_REPACK, str(path), str(out)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    frames = pictures(40)
    if is_changed:
        frames[0, 0] = 7
        write_frames(path, frames)
    encoded = []

    def record(self, frame, encode=Encoding.encode):
        encoded.append(1)
        return encode(self, frame)

    monkeypatch.setattr(Encoding, "encode", record)
    h5v.repack(path, out, codec="jpeg")
    assert rows_of(out) == [*map(encode_picture, frames)]
    checked = 16
    assert len(encoded) == checked + (40 if is_changed else 40 - 15)
    assert files_in(tmp_path) == ["a.h5", "b.h5"]


# Parts


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
