from __future__ import annotations

import errno
import os
import re
import sys
import wave
import weakref
from fractions import Fraction

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pack_helpers import contents, cut, files_in, noisy, numbered, numbers, reasons, write_video

from h5video_data.errors import (
    ArgumentError,
    H5VideoError,
    MissingDependencyError,
    PackingError,
    VideoFileNotFoundError,
)
from h5video_data.tools import pack as packing
from h5video_data.tools.pack import SkippedVideo, pack
from h5video_data.tools.packing import decoding
from h5video_data.tools.packing import videos as video_files
from h5video_data.tools.packing.clip_rules import clip_starts


@pytest.fixture
def videos(tmp_path):
    """Two classes, with 10 and 12 frames."""
    write_video(tmp_path / "videos/b run/1.mkv", numbered(10))
    write_video(tmp_path / "videos/a walk/2.mkv", numbered(12), rate=Fraction(25, 2))
    return tmp_path / "videos"


# Which frames


STARTS = {
    "single is centred": (10, 1, 4, 1, (3,)),
    "single, even room": (11, 1, 4, 1, (3,)),
    "single that just fits": (4, 1, 4, 1, (0,)),
    "too short": (3, 1, 4, 1, ()),
    "no frames": (0, 3, 1, 1, ()),
    "stride counts": (9, 1, 4, 3, ()),
    "stride just fits": (10, 1, 4, 3, (0,)),
    "two at the ends": (10, 2, 4, 1, (0, 6)),
    "three": (10, 3, 4, 1, (0, 3, 6)),
    "uneven room": (10, 4, 5, 1, (0, 1, 3, 5)),
    "overlap": (6, 2, 4, 1, (0, 2)),
    "as many as there are": (6, 3, 4, 1, (0, 1, 2)),
    "more than there are": (6, 50, 4, 1, (0, 1, 2)),
    "many, but one position": (4, 50, 4, 1, (0,)),
    "single frames": (5, 5, 1, 9, (0, 1, 2, 3, 4)),
}


@pytest.mark.parametrize("case", STARTS.values(), ids=STARTS)
def test_clip_starts(case):
    num_video_frames, num_clips, num_frames, stride, expected = case
    span = (num_frames - 1) * stride + 1
    starts = clip_starts(num_video_frames, num_clips=num_clips, span=span)
    assert starts == expected


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 20), st.integers(1, 5))
def test_clip_starts_laws(num_video_frames, num_clips, num_frames, stride):
    span = (num_frames - 1) * stride + 1
    starts = clip_starts(num_video_frames, num_clips=num_clips, span=span)
    room = num_video_frames - (num_frames - 1) * stride
    assert len(starts) == max(0, min(num_clips, room))
    assert list(starts) == sorted(set(starts))
    assert all(0 <= start < room for start in starts)
    if len(starts) > 1:
        assert (starts[0], starts[-1]) == (0, room - 1)
        gaps = np.diff(starts)
        assert gaps.max() - gaps.min() <= 1


# Pictures


# What the file holds


def test_file(videos):
    out = videos.parent / "out.h5"
    (videos / "nothing").mkdir()
    (videos / "c only text").mkdir()
    (videos / "c only text/notes.txt").write_text("hello")
    report = pack(videos, out, num_frames=3, stride=2, size=(8, 10), clips_per_video=2)
    data, attributes = contents(out)
    names = ["a walk", "b run", "c only text", "nothing"]
    assert attributes == {
        "sample_count": 4,
        "class_names": names,
        "num_frames": 3,
        "stride": 2,
        "clips_per_video": 2,
        "size": [8, 10],
        "fit": "crop",
        "short": "skip",
        "uniform": False,
    }
    assert sorted(data) == [
        "X",
        "Y",
        "frame_rate",
        "source",
        "source_size",
        "start_frame",
        "start_time",
    ]
    assert data["X"].shape == (4, 3, 3, 8, 10)
    assert [data[name].dtype for name in ("X", "Y", "start_frame", "frame_rate")] == [
        np.uint8,
        np.float32,
        np.int64,
        np.float64,
    ]
    assert data["Y"].tolist() == [[1, 0, 0, 0]] * 2 + [[0, 1, 0, 0]] * 2
    assert data["source"].tolist() == [b"a walk/2.mkv"] * 2 + [b"b run/1.mkv"] * 2
    assert data["start_frame"].tolist() == [0, 7, 0, 5]
    assert data["frame_rate"].tolist() == [12.5, 12.5, 25, 25]
    np.testing.assert_allclose(data["start_time"], [0, 7 / 12.5, 0, 5 / 25], atol=1e-3)
    assert data["source_size"].tolist() == [[16, 16]] * 4
    assert numbers(data["X"]) == [[0, 2, 4], [7, 9, 11], [0, 2, 4], [5, 7, 9]]
    assert report.path == out
    assert report.class_names == tuple(names)
    assert report.samples_per_class == (2, 2, 0, 0)
    assert (report.num_samples, report.num_videos) == (4, 2)
    assert list(reasons(report)) == ["c only text/notes.txt"]


def test_strings_are_utf8_of_variable_length(tmp_path):
    write_video(tmp_path / "videos/Übung/逃げる.mkv", numbered(2))
    pack(tmp_path / "videos", tmp_path / "out.h5", num_frames=2)
    with h5py.File(tmp_path / "out.h5") as file:
        assert h5py.check_string_dtype(file["source"].dtype) == ("utf-8", None)
        assert file["source"].asstr()[0] == "Übung/逃げる.mkv"
        assert file.attrs["class_names"].tolist() == ["Übung"]


@pytest.mark.slow
def test_thousands_of_classes(videos):
    for number in range(5000):
        (videos / f"class {number:04}").mkdir()
    pack(videos, videos.parent / "out.h5", num_frames=2, size=(8, 8))
    data, attributes = contents(videos.parent / "out.h5")
    assert len(attributes["class_names"]) == 5002
    assert data["Y"].shape == (2, 5002)


def test_unknown_frame_rate_is_nan(tmp_path):
    write_video(tmp_path / "videos/a/v.nut", numbered(1))  # one frame, and no rate in the header
    pack(tmp_path / "videos", tmp_path / "out.h5", num_frames=1)
    assert np.isnan(contents(tmp_path / "out.h5")[0]["frame_rate"]).tolist() == [True]


LAYOUTS = {
    "contiguous": (None, None, None, None),
    "gzip": ("gzip", (1, 3, 3, 8, 8), "gzip", 4),
    "lzf": ("lzf", (1, 3, 3, 8, 8), "lzf", None),
}


@pytest.mark.parametrize("case", LAYOUTS.values(), ids=LAYOUTS)
def test_layout(videos, case):
    compression, chunks, name, level = case
    pack(videos, videos.parent / "plain.h5", num_frames=3, size=(8, 8), clips_per_video=3)
    pack(
        videos,
        videos.parent / "out.h5",
        num_frames=3,
        size=(8, 8),
        clips_per_video=3,
        compression=compression,
    )
    with h5py.File(videos.parent / "out.h5") as file:
        dataset = file["X"]
        assert dataset.shape == dataset.maxshape == (6, 3, 3, 8, 8)
        assert dataset.chunks == chunks
        assert (dataset.compression, dataset.compression_opts) == (name, level)
        assert not dataset.shuffle
        if compression is None:
            assert dataset.id.get_offset() is not None
        else:
            assert dataset.id.get_num_chunks() == 6
    data, _ = contents(videos.parent / "out.h5")
    plain, _ = contents(videos.parent / "plain.h5")
    np.testing.assert_array_equal(data["X"], plain["X"])


# Which files


def test_order_is_by_class_then_path_then_start(tmp_path):
    paths = ["b/1.mkv", "a/z.mkv", "a/deep/er/y.mkv", "a/B.mkv", "a/deep.mkv", "B/1.mkv"]
    for path in paths:
        write_video(tmp_path / "videos" / path, numbered(3))
    pack(tmp_path / "videos", tmp_path / "out.h5", num_frames=2, clips_per_video=2)
    data, attributes = contents(tmp_path / "out.h5")
    expected = ["B/1.mkv", "a/B.mkv", "a/deep.mkv", "a/deep/er/y.mkv", "a/z.mkv", "b/1.mkv"]
    assert attributes["class_names"] == ["B", "a", "b"]
    assert [text.decode() for text in data["source"]] == [p for p in expected for _ in range(2)]
    assert data["start_frame"].tolist() == [0, 1] * 6
    assert data["Y"].argmax(axis=1).tolist() == [0] * 2 + [1] * 8 + [2] * 2


def test_two_runs_write_the_same(videos):
    write_video(videos / "a walk/lossy.mp4", noisy(20), "mpeg4", "yuv420p")
    for name in ("1.h5", "2.h5"):
        pack(videos, videos.parent / name, num_frames=4, clips_per_video=3)
    (first, attributes), (second, same_attributes) = [
        contents(videos.parent / name) for name in ("1.h5", "2.h5")
    ]
    assert attributes == same_attributes
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


def test_hidden_files_and_folders_are_ignored(videos):
    write_video(videos / ".hidden class/v.mkv", numbered(10))
    write_video(videos / "b run/.hidden.mkv", numbered(10))
    write_video(videos / "b run/.hidden/v.mkv", numbered(10))
    (videos / "b run/.DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (videos / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    report = pack(videos, videos.parent / "out.h5", num_frames=3)
    assert report.skipped == ()
    assert report.class_names == ("a walk", "b run")
    assert report.samples_per_class == (1, 1)


def sound(path):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))


UNREADABLE = {
    "text": (
        "README.txt",
        lambda p: p.write_text("hello\n" * 99),
        "^is (a text file$|not a video)",
    ),
    "data": ("labels.json", lambda p: p.write_text('{"a": 1}'), "^is not a video, or a damaged "),
    "empty": ("v.mp4", lambda p: p.write_bytes(b""), "^is not a video, or a damaged one: "),
    "noise": ("v.avi", lambda p: p.write_bytes(np.random.default_rng(0).bytes(9999)), "^is not a "),
    "broken link": ("v.mkv", lambda p: p.symlink_to("nowhere"), "^cannot be opened: No such file"),
    "link to a folder": ("v", lambda p: p.symlink_to("../.."), "^is a link to a folder, which is"),
    "sound": ("v.wav", sound, "^has no video stream$"),
    "short": (
        "v.mkv",
        lambda p: write_video(p, numbered(6)),
        "^is too short: it has 6 frames, and a clip spans 7$",
    ),
}


@pytest.mark.parametrize("case", UNREADABLE.values(), ids=UNREADABLE)
def test_what_gives_no_sample_is_listed(videos, case):
    name, write, reason = case
    (videos / "b run/more").mkdir()
    write(videos / "b run/more" / name)
    report = pack(videos, videos.parent / "out.h5", num_frames=4, stride=2)
    assert list(reasons(report)) == [f"b run/more/{name}"]
    assert re.search(reason, report.skipped[0].reason)
    assert report.samples_per_class == (1, 1)
    data, _ = contents(videos.parent / "out.h5")
    assert data["X"].shape[0] == 2


def test_files_beside_the_class_folders_are_listed(videos):
    write_video(videos / "z.mkv", numbered(10))
    (videos / "b run/bad.mkv").write_bytes(b"")
    report = pack(videos, videos.parent / "out.h5", num_frames=4)
    assert report.skipped[1] == SkippedVideo("z.mkv", "is in no class folder")
    assert list(reasons(report)) == ["b run/bad.mkv", "z.mkv"]


def test_a_format_that_cannot_be_converted_is_listed(videos, monkeypatch):
    to_picture = video_files._to_picture

    def refuse_18_rows(frame, *arguments):
        if frame.height == 18:
            raise NotImplementedError("no such conversion")
        return to_picture(frame, *arguments)

    write_video(videos / "b run/odd.mkv", numbered(10, rows=18))
    monkeypatch.setattr(video_files, "_to_picture", refuse_18_rows)
    report = pack(videos, videos.parent / "out.h5", num_frames=4)
    assert reasons(report) == {"b run/odd.mkv": "cannot be converted to RGB: no such conversion"}


# Containers that do not tell the truth


def test_an_mp4_without_its_index_is_listed(videos):
    cut(write_video(videos / "b run/v.mp4", noisy(20), "mpeg4", "yuv420p"), 0.6)
    report = pack(videos, videos.parent / "out.h5", num_frames=4)
    assert reasons(report).keys() == {"b run/v.mp4"}
    assert report.num_samples == 2


def test_a_file_cut_before_one_clip_is_listed(videos):
    cut(write_video(videos / "b run/v.mkv", noisy(40)), 0.2)
    report = pack(videos, videos.parent / "out.h5", num_frames=10)
    assert reasons(report).keys() == {"b run/v.mkv"}
    assert re.match(r"is too short: it has [1-9] frames, and a", report.skipped[0].reason)


def test_a_video_with_a_damaged_frame_is_listed(videos):
    path = write_video(videos / "b run/v.avi", noisy(40), "mpeg4", "yuv420p")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 60] = np.random.default_rng(0).bytes(60)
    path.write_bytes(data)
    report = pack(videos, videos.parent / "out.h5", num_frames=4)
    assert reasons(report).keys() == {"b run/v.avi"}
    assert re.match(
        r"is damaged, the decoder had to make up .* frame \d+$", report.skipped[0].reason
    )


def test_a_video_that_cannot_be_decoded_to_its_end_is_listed(videos):
    path = write_video(videos / "b run/v.avi", noisy(40), "rawvideo", "bgr24")
    data = bytearray(path.read_bytes())
    # Frame 20 says that it has 100 bytes, and a chunk that nobody reads takes up the rest.
    frame_bytes = 48 * 64 * 3
    chunk = [match.start() for match in re.finditer(b"00dc", data)][20]
    assert int.from_bytes(data[chunk + 4 : chunk + 8], "little") == frame_bytes
    data[chunk + 4 : chunk + 8] = (100).to_bytes(4, "little")
    rest = chunk + 8 + 100
    data[rest : rest + 8] = b"JUNK" + (frame_bytes - 108).to_bytes(4, "little")
    path.write_bytes(data)
    report = pack(videos, videos.parent / "out.h5", num_frames=4)
    assert reasons(report).keys() == {"b run/v.avi"}
    assert report.skipped[0].reason.startswith("is damaged, decoding failed: ")


def test_a_video_whose_packets_announce_other_frames(videos, monkeypatch):
    """Frames are chosen by what decoding shows, if packets said something else."""
    pack(videos, videos.parent / "right.h5", num_frames=4, clips_per_video=2)
    monkeypatch.setattr(video_files, "packet_times", lambda _: np.arange(30) / 25)
    pack(videos, videos.parent / "out.h5", num_frames=4, clips_per_video=2)
    found, expected = (contents(videos.parent / name)[0] for name in ("out.h5", "right.h5"))
    assert numbers(found["X"]) == [[0, 1, 2, 3], [8, 9, 10, 11], [0, 1, 2, 3], [6, 7, 8, 9]]
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_videos_that_are_others_each_time(videos, monkeypatch):
    monkeypatch.setattr(decoding, "_are_same", lambda *_: False)
    message = r"a walk/2.mkv \(changed while it was read\), b run/1.mkv \(changed while it was"
    with pytest.raises(PackingError, match=message):
        pack(videos, videos.parent / "out.h5", num_frames=4)


def test_each_video_is_decoded_once(videos, monkeypatch):
    opened = []
    open_video = video_files.open_video
    monkeypatch.setattr(
        video_files,
        "open_video",
        lambda path, n: (opened.append(path.name), open_video(path, n))[1],
    )
    pack(videos, videos.parent / "out.h5", num_frames=4, clips_per_video=3)
    assert sorted(opened) == ["1.mkv", "2.mkv"]


# Writing


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt("stop")])
def test_nothing_is_left_behind_by_a_failure(videos, monkeypatch, error):
    out = videos.parent / "out.h5"
    out.write_bytes(b"the old one")
    read_source, seen = packing.read_source, []

    def fail_at_the_second_video(*arguments, **named):
        yield from read_source(*arguments, **named)
        seen.append(files_in(videos.parent))
        if len(seen) == 2:
            raise error

    monkeypatch.setattr(packing, "read_source", fail_at_the_second_video)
    with pytest.raises(type(error), match=str(error)):
        pack(videos, out, num_frames=3, overwrite=True)
    assert seen[1][1:3] == ["out.h5.partial", "out.h5.partial.journal"]
    assert files_in(videos.parent) == ["out.h5", "videos"]
    assert out.read_bytes() == b"the old one"


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("num_writes", [0, 5, 12])
def test_a_full_disk(videos, monkeypatch, compression, num_writes):
    pwrite, calls = os.pwrite, []

    def fail_in_the_end(*arguments):
        calls.append(arguments)
        if len(calls) > num_writes:
            raise OSError(errno.ENOSPC, "")
        return pwrite(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail_in_the_end)
        with pytest.raises(PackingError, match=r"left behind: No space left on device$") as caught:
            pack(videos, videos.parent / "out.h5", num_frames=3, compression=compression)
    assert isinstance(caught.value, OSError)
    assert files_in(videos.parent) == ["videos"]


def test_the_file_is_on_disk_and_whole_before_it_gets_its_name(videos, monkeypatch):
    out = videos.parent / "out.h5"
    fsync, seen = os.fsync, []

    def record(descriptor):
        partial = videos.parent / "out.h5.partial"
        assert os.fstat(descriptor).st_ino == partial.stat().st_ino
        seen.append((contents(partial)[0]["X"], out.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    pack(videos, out, num_frames=3)
    assert [exists for _, exists in seen] == [False]
    np.testing.assert_array_equal(seen[0][0], contents(out)[0]["X"])


def test_the_file_has_the_permissions_of_a_new_file(videos):
    pack(videos, videos.parent / "out.h5", num_frames=3)
    (videos.parent / "new").touch()
    modes = {(videos.parent / name).stat().st_mode for name in ("out.h5", "new")}
    assert len(modes) == 1


def test_an_existing_file_is_replaced_only_on_request(videos):
    out = videos.parent / "out.h5"
    out.write_bytes(b"the old one")
    with pytest.raises(ArgumentError, match=r"Use overwrite=True to .*: out='.*out.h5'$"):
        pack(videos, out)
    assert out.read_bytes() == b"the old one"
    pack(videos, out, num_frames=3, overwrite=True)
    assert contents(out)[1]["sample_count"] == 2


def test_memory_holds_the_pictures_of_the_open_clips_only(tmp_path, monkeypatch):
    write_video(tmp_path / "videos/a/v.mkv", numbered(40))
    to_picture, pictures, alive = video_files._to_picture, [], []

    def count(*arguments):
        picture = to_picture(*arguments)
        assert picture.base is None  # not a view, which would keep a larger picture alive
        pictures.append(weakref.ref(picture))
        alive.append(sum(reference() is not None for reference in pictures))
        return picture

    monkeypatch.setattr(video_files, "_to_picture", count)
    pack(tmp_path / "videos", tmp_path / "out.h5", num_frames=4, clips_per_video=10)
    assert len(pictures) == 40
    assert max(alive) <= 4 + 1


# Errors


ARGUMENTS = {
    "num_frames": ({"num_frames": 0}, r"`num_frames` must .*Received: num_frames=0$"),
    "fraction": ({"num_frames": 2.0}, r"`num_frames` must .*Received: num_frames=2\.0$"),
    "stride": ({"stride": -1}, r"`stride` must .*Received: stride=-1$"),
    "clips": ({"clips_per_video": 0}, r"`clips_per_video` must .* clips_per_video=0$"),
    "size zero": ({"size": (8, 0)}, r"`size` must .*Received: size=\(8, 0\)$"),
    "size number": ({"size": 112}, r"`size` must be \(rows, columns\).*Received: size=112$"),
    "size text": ({"size": "88"}, r"`size` must be \(rows, columns\).*Received: size='88'$"),
    "size of 3": ({"size": (8, 8, 3)}, r"`size` must be .*Received: size=\(8, 8, 3\)$"),
    "compression": ({"compression": "zip"}, r"`compression` must .*: compression='zip'$"),
    "chunk": (
        {"compression": "lzf", "size": (9000, 9000), "num_frames": 18},
        r"smaller than 4 GiB, and has 4374000000 bytes: shape \(18, 3, 9000, 9000\)\. .*'lzf'$",
    ),
}


@pytest.mark.parametrize("case", ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments(videos, case):
    arguments, message = case
    with pytest.raises(ArgumentError, match=message):
        pack(videos, videos.parent / "out.h5", **arguments)


def test_numpy_numbers_and_lists_are_arguments_too(videos):
    out = videos.parent / "out.h5"
    pack(videos, str(out), num_frames=np.int64(3), stride=np.uint8(2), size=[8, 8])
    assert contents(out)[0]["X"].shape == (2, 3, 3, 8, 8)


def test_missing_folder(tmp_path):
    with pytest.raises(VideoFileNotFoundError, match=r"There is no folder .*nowhere\.$"):
        pack(tmp_path / "nowhere", tmp_path / "out.h5")


def test_folder_is_a_file(tmp_path):
    (tmp_path / "v.mp4").touch()
    with pytest.raises(ArgumentError, match=r"and is a file\. Received: folder='.*v\.mp4'$"):
        pack(tmp_path / "v.mp4", tmp_path / "out.h5")


def test_folder_without_class_folders(tmp_path):
    for number in range(12):
        (tmp_path / f"{number:02}.mp4").touch()
    with pytest.raises(
        PackingError, match=r"one sub-folder per class .* 12 files: 00.mp4, .*09.mp4"
    ):
        pack(tmp_path, tmp_path / "out.h5")
    with pytest.raises(PackingError, match=r"and 2 more\. Use labels=None"):
        pack(tmp_path, tmp_path / "out.h5")


def test_folder_of_out_is_missing(videos):
    with pytest.raises(VideoFileNotFoundError, match=r"no folder .*nowhere to write out\.h5 to"):
        pack(videos, videos / "nowhere/out.h5")


def test_out_is_a_folder(videos):
    with pytest.raises(ArgumentError, match=r"is a folder\. Received: out='.*videos'$"):
        pack(videos, videos, overwrite=True)


def test_nothing_to_pack(tmp_path):
    (tmp_path / "videos/a").mkdir(parents=True)
    with pytest.raises(PackingError, match=r"the class folders in .*videos hold no files"):
        pack(tmp_path / "videos", tmp_path / "out.h5")


def test_nothing_could_be_packed(tmp_path):
    write_video(tmp_path / "videos/a/v.mkv", numbered(3))
    (tmp_path / "videos/b").mkdir()
    (tmp_path / "videos/b/w.mkv").touch()
    reasons = r"a/v.mkv \(is too short.*\), b/w.mkv \(is not a video.*\)\.$"
    message = rf"No file in .* gives a sample, of 2: {reasons}"
    with pytest.raises(PackingError, match=message):
        pack(tmp_path / "videos", tmp_path / "out.h5")
    assert files_in(tmp_path) == ["videos"]


def test_a_name_that_is_not_utf8(videos):
    try:
        (videos / "b run/1.mkv").rename(videos / "b run" / os.fsdecode(b"\xff.mkv"))
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    report = pack(videos, videos.parent / "out.h5", num_frames=10)
    data, _ = contents(videos.parent / "out.h5")
    assert report.skipped == ()
    assert data["source"].tolist() == [b"a walk/2.mkv", b"b run/\\xff.mkv"]
    assert numbers(data["X"][1:]) == [list(range(10))]


def test_pyav_is_missing(videos, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"PyAV .*pip install 'h5video_data\[pack\]'"):
        pack(videos, videos.parent / "out.h5")
    assert issubclass(MissingDependencyError, H5VideoError)
    assert issubclass(MissingDependencyError, ImportError)


def test_tqdm_is_needed_for_the_progress_only(videos, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    pack(videos, videos.parent / "out.h5", num_frames=3)
    with pytest.raises(MissingDependencyError, match=r"tqdm .*pip install 'h5video_data\[pack\]'"):
        pack(videos, videos.parent / "more.h5", num_frames=3, progress=True)
    assert files_in(videos.parent) == ["out.h5", "videos"]


def test_progress(videos, capfd):
    pack(videos, videos.parent / "out.h5", num_frames=3)
    assert capfd.readouterr() == ("", "")
    pack(videos, videos.parent / "out.h5", num_frames=3, progress=True, overwrite=True)
    written, shown = capfd.readouterr()
    assert written == ""
    assert re.search(r"packing: 100%.* 2/2 .*video/s", shown)


def test_names_in_a_table_lead_nowhere(tmp_path):
    # Labels, groups and splits are values: no name of a file or of a dataset is made of them.
    folder = tmp_path / "in" / "set"
    folder.mkdir(parents=True)
    write_video(folder / "a.mp4", numbered(20))
    evil = ["../../evil", "/etc/evil", "..", "Y", "evil\\..\\evil"]
    rows = [f"a.mp4,{name},{name},{name}" for name in evil]
    (folder / "t.csv").write_text("\n".join(["path,label,group,split", *rows]))
    before = set(tmp_path.rglob("*"))
    pack(folder / "t.csv", folder / "out.h5", num_frames=4, size=(16, 16))
    assert set(tmp_path.rglob("*")) - before == {folder / "out.h5"}
    with h5py.File(folder / "out.h5") as file:
        assert sorted(file.attrs["class_names"]) == sorted(evil)
        assert [name.decode() for name in file["group"][()]] == evil
        assert [name.decode() for name in file["split"][()]] == evil
        found = []
        file.visit(found.append)
        assert not [name for name in found if "evil" in name or ".." in name]
