import contextlib
import io
import json
import os
import re
import subprocess
import sys
from inspect import signature
from os.path import getsize

import h5py
import imagecodecs
import numpy as np
import pytest

from h5video_data import __version__
from h5video_data.testing import write_recordings, write_video_file
from h5video_data.tools import cli
from h5video_data.tools.cli import _parser, main
from h5video_data.tools.inspection import inspect, size_text
from h5video_data.tools.pack import pack
from h5video_data.tools.repack import Estimate, repack


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "h5video_data", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
        **options,
    )


def write_clip(path, num_frames=20):
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(num_frames):
            pixels = np.full((48, 64, 3), 10 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def test_inspect(tmp_path, capsys):
    file = write_video_file(tmp_path / "a.h5")
    assert main(["inspect", file]) == 0
    assert "X: (20, 4, 3, 8, 8) uint8" in capsys.readouterr().out
    assert main(["inspect", "--json", file]) == 0
    assert json.loads(capsys.readouterr().out)["datasets"][0]["path"] == "direct"


def test_a_problem_is_exit_code_1(tmp_path, capsys):
    file = write_video_file(tmp_path / "a.h5")
    with h5py.File(file, "a") as opened:
        opened.attrs["sample_count"] = 21
    assert main(["inspect", file]) == 1
    assert "problem: " in capsys.readouterr().out
    assert main(["inspect", file, "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 1
    with pytest.raises(SystemExit):
        main(["inspect", "--help"])
    assert "Exit codes: 0: no problem; 1: a problem" in " ".join(capsys.readouterr().out.split())


def test_inspect_writes_a_page(tmp_path, capsys):
    file = write_video_file(tmp_path / "a.h5")
    assert main(["inspect", file, "--html", str(tmp_path / "a.html")]) == 0
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")
    assert main(["inspect", file, "--html", str(tmp_path / "none" / "a.html")]) == 1
    assert "none/a.html" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("is_terminal", "variables", "is_coloured"),
    [
        (True, {}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {}, False),
    ],
)
def test_colours(tmp_path, monkeypatch, capsys, is_terminal, variables, is_coloured):
    file = write_video_file(tmp_path / "a.h5")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: is_terminal)
    assert main(["inspect", file]) == 0
    assert ("\x1b[" in capsys.readouterr().out) == is_coloured


def test_pack_then_inspect(tmp_path, capsys):
    write_clip(tmp_path / "videos" / "one" / "a.mp4")
    write_clip(tmp_path / "videos" / "two" / "b.mp4")
    (tmp_path / "videos" / "two" / "notes.bin").write_bytes(b"no video")
    out = tmp_path / "packed.h5"
    arguments = ["--frames", "4", "--stride", "2", "--size", "24x32", "--clips-per-video", "3"]
    assert main(["pack", str(tmp_path / "videos"), str(out), *arguments]) == 0
    printed = capsys.readouterr()
    assert "6 samples from 2 videos, 3 one, 3 two" in printed.out
    assert "skipped two/notes.bin: it is not a video" in printed.err
    assert "packing" not in printed.err  # no bar where nobody watches it
    assert main(["inspect", str(out)]) == 0
    assert "X: (6, 4, 3, 24, 32) uint8" in capsys.readouterr().out
    arguments += ["--overwrite", "--quiet", "--compression", "gzip"]
    assert main(["pack", str(tmp_path / "videos"), str(out), *arguments]) == 0
    assert "packing" not in capsys.readouterr().err
    assert main(["inspect", str(out)]) == 0
    assert "chunks (1, 4, 3, 24, 32), filters deflate" in capsys.readouterr().out


ERRORS = {
    "inspect no file": (["inspect", "none.h5"], 1, "No such file. Received: FILE=none.h5"),
    "inspect with no memory": (
        ["inspect", "set.h5", "--read-ahead-bytes", "-1"],
        1,
        "--read-ahead-bytes must be a whole number, 0 or more. Received: --read-ahead-bytes -1",
    ),
    "inspect text": (["inspect", "text.h5"], 1, "is not an HDF5 file"),
    "inspect a folder": (["inspect", "."], 1, "is a directory"),
    "pack without classes": (["pack", "empty", "out.h5"], 1, "Expected one sub-folder per class"),
    "pack no folder": (["pack", "nowhere", "out.h5"], 1, "There is no folder nowhere"),
    "pack a folder called none": (["pack", "none", "out.h5"], 1, "There is no folder none."),
    "pack a file": (
        ["pack", "set.h5", "out.h5"],
        1,
        "or .parquet, and is a file. Received: FOLDER=set.h5",
    ),
    "pack no frames": (
        ["pack", ".", "out.h5", "--frames", "0"],
        1,
        "--frames must be a whole number, 1 or more. Received: --frames 0",
    ),
    "pack no stride": (["pack", ".", "out.h5", "--stride", "-1"], 1, "Received: --stride -1"),
    "pack no clips": (
        ["pack", ".", "out.h5", "--clips-per-video", "0"],
        1,
        "--clips-per-video must be a whole number, 1 or more. Received: --clips-per-video 0",
    ),
    "pack 4 GiB": (
        ["pack", ".", "out.h5", "--frames=18", "--size", "9000x9000", "--compression=lzf"],
        1,
        "shape (18, 3, 9000, 9000). Received: --compression lzf",
    ),
    "pack onto a file": (
        ["pack", ".", "set.h5"],
        1,
        "OUT.h5 exists. Use --overwrite to replace it. Received: OUT.h5=set.h5",
    ),
    "pack wrong size": (["pack", ".", "a", "--size", "big"], 2, "as 112 or 112x96, and is 'big'"),
    "pack zip": (["pack", ".", "a", "--compression", "zip"], 2, "invalid choice: 'zip'"),
    "pack zstd": (["pack", ".", "a", "--compression", "zstd"], 2, "invalid choice: 'zstd'"),
    "repack no file": (["repack", "none.h5", "out.h5"], 1, "No such file. Received: FILE=/"),
    "repack no match": (["repack", "n*.h5", "out.h5"], 1, "Received: FILE='n*.h5'"),
    "repack onto itself": (
        ["repack", "set.h5", "./set.h5"],
        1,
        "OUT.h5 must not be a file that is read, and is {folder}/set.h5. Received: OUT.h5=set.h5",
    ),
    "repack onto a file": (
        ["repack", "set.h5", "text.h5"],
        1,
        "OUT.h5 exists. Use --overwrite to replace it. Received: OUT.h5=text.h5",
    ),
    "repack onto a folder": (
        ["repack", "set.h5", "x=1 `out`"],
        1,
        "OUT.h5 must be a file, and is a folder. Received: OUT.h5='x=1 `out`'",
    ),
    "repack nothing": (
        ["repack", "set.h5", "out.h5", "--x", ""],
        1,
        "--x must be the name of a dataset, or a list of names. Received: --x ''",
    ),
    "repack no dataset": (["repack", "set.h5", "out.h5", "--x", "Z"], 1, "has no dataset 'Z'"),
    "repack a linked group": (
        ["repack", "linked.h5", "out.h5", "--x", "g/X", "--quiet"],
        1,
        "repack that file. Received: --x g/X",
    ),
    "repack no sample": (
        ["repack", "set.h5", "out.h5", "--indices", "0:21"],
        1,
        "--indices must be from 0 to 19, the numbers of the samples. Received: from 0 to 20",
    ),
    "repack a word": (
        ["repack", "set.h5", "out.h5", "--indices", "first"],
        2,
        "it must be numbers of samples, as 3,5,8, 0:100 (the first hundred) or @FILE, and is",
    ),
    "repack one name": (["repack", "set.h5"], 2, "the following arguments are required: OUT.h5"),
    "repack zip": (["repack", "a", "b", "--compression", "zip"], 2, "invalid choice: 'zip'"),
    "demo in a file": (["demo", "--folder", "text.h5"], 1, "File exists: 'text.h5'"),
    "no command": ([], 2, "the following arguments are required: COMMAND"),
    "unknown command": (["unpack"], 2, "invalid choice: 'unpack'"),
    "inspect nothing": (["inspect"], 2, "the following arguments are required: FILE"),
}


@pytest.mark.parametrize(("arguments", "code", "message"), ERRORS.values(), ids=ERRORS)
def test_errors_are_one_clear_line(tmp_path, monkeypatch, capsys, arguments, code, message):
    (tmp_path / "text.h5").write_text("hello")
    for name in ("empty", "x=1 `out`"):
        (tmp_path / name).mkdir()
    write_video_file(tmp_path / "set.h5")
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["g"] = h5py.ExternalLink("set.h5", "/")
    monkeypatch.chdir(tmp_path)
    try:
        found = main(arguments)
    except SystemExit as error:
        found = error.code
    printed = capsys.readouterr()
    assert (found, printed.out) == (code, "")
    lines = printed.err.splitlines()
    assert message.replace("{folder}", str(tmp_path)) in lines[-1]
    assert "Traceback" not in printed.err
    assert len(lines) == code  # usage is a line of its own
    # No Python arguments, but for what the message quotes.
    unquoted = re.sub(r"'[^']*'", "", lines[-1])
    assert not re.search(r"`|[a-z_]+=\w", unquoted), lines[-1]
    assert not list(tmp_path.glob("out.h5*"))


@pytest.mark.parametrize(
    ("function", "others"),
    [
        (repack, {"progress"}),  # shown on a terminal
        (pack, {"progress"}),
        (inspect, set()),
    ],
)
def test_each_argument_has_a_flag(function, others):
    flags = _parser().parse_args([function.__name__, "a.h5", *["b.h5"][: function is not inspect]])
    assert set(signature(function).parameters) - set(flags.flags) == others


@pytest.mark.parametrize("text", ["2:5", "4,2,3", "@numbers.txt", "@mask.npy"])
def test_repack_of_some_samples(tmp_path, monkeypatch, capsys, text):
    monkeypatch.chdir(tmp_path)
    write_video_file("a.h5")
    (tmp_path / "numbers.txt").write_text("2 3\n4")
    np.save("mask.npy", np.isin(np.arange(20), [2, 3, 4]))
    assert main(["repack", "a.h5", "b.h5", "--indices", text]) == 0
    assert "3 samples of X" in capsys.readouterr().out
    with h5py.File("a.h5") as old, h5py.File("b.h5") as new:
        assert new.attrs["sample_count"] == 3
        np.testing.assert_array_equal(new["X"][:], old["X"][2:5])
        np.testing.assert_array_equal(new["Y"][:], old["Y"][2:5])


def test_repack_says_what_it_has_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_video_file("a.h5")
    assert main(["repack", "a.h5", "b.h5"]) == 0
    assert capsys.readouterr().out == f"b.h5: 20 samples of X, {size_text(getsize('b.h5'))}\n"
    assert main(["repack", "a.h5", "c.h5", "--shards", "3"]) == 0
    shards = [f"c-0000{number}-of-00003.h5" for number in range(3)]
    size = size_text(sum(map(getsize, shards)))
    line = f"c-*-of-00003.h5: 20 samples of X in 3 files, {size}\n"
    assert capsys.readouterr().out == line
    assert main(["repack", "a.h5", "c.h5", "--shards", "3", "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shards"] == shards


def test_pack_says_what_it_has_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number in range(13):
        write_clip(tmp_path / "videos" / f"class{number}" / "a.mp4", 4)
    arguments = ["pack", "videos", "a.h5", "--frames", "4", "--size", "8"]
    assert main(arguments) == 0
    line = f"a.h5: 13 samples from 13 videos, 13 classes, {size_text(getsize('a.h5'))}\n"
    assert capsys.readouterr().out == line


def test_repack_of_frames_names_the_call_as_it_is_typed(tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.chdir(tmp_path)
    write_recordings("a.h5", [20, 31, 3, 2], frame_shape=(8, 8, 3))
    assert main(["repack", "a.h5", "b.h5", "--x", "pixels", "--indices", "0:5"]) == 1
    printed = capsys.readouterr().err
    assert "which --indices, --subset and --shards would tear" in printed
    assert ', x="pixels", y="action", windows=h5v.Windows(11, bounds="ep_offset"))' in printed
    assert not caplog.messages


def test_reasons_for_skipping_name_flags(tmp_path, capsys):
    write_video_file(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        layout = h5py.VirtualLayout((20 << 30, 3), "u1")
        file["few"] = [[1, 2, 3]]
        layout[:1] = h5py.VirtualSource(file["few"])
        file.create_virtual_dataset("many values", layout)
    assert main(["repack", str(tmp_path / "a.h5"), str(tmp_path / "b.h5"), "--quiet"]) == 0
    assert "repack it by itself: --x '/many values'\n" in capsys.readouterr().err


def test_interrupted(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "inspect", interrupted)
    assert main(["inspect", str(tmp_path / "a.h5")]) == 130
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "h5video-data: interrupted\n")
    with pytest.raises(KeyboardInterrupt):
        main(["--debug", "inspect", str(tmp_path / "a.h5")])


def test_output_into_a_stream_of_text(tmp_path):
    file = write_video_file(tmp_path / "a.h5")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["inspect", file]) == 0
    assert "X: (20, 4, 3, 8, 8) uint8" in printed.getvalue()


def test_none_where_a_function_takes_none(tmp_path, capsys):
    path, out = tmp_path / "a.h5", tmp_path / "b.h5"
    rows = [imagecodecs.png_encode(np.full((4, 5), i, np.uint8)) for i in range(3)]
    with h5py.File(path, "w") as file:
        file["X"] = np.array(rows, h5py.string_dtype(length=max(map(len, rows))))
    command = ["repack", str(path), str(out), "--dtype", "uint8"]
    assert main([*command, "--decode", "none"]) == 1
    assert "'/X'" in capsys.readouterr().err
    assert main(command) == 0
    with h5py.File(out) as file:
        assert file["X"].shape == (3, 4, 5, 1)
    write_clip(tmp_path / "videos/one/a.mp4", 4)
    command = ["pack", str(tmp_path / "videos"), str(tmp_path / "c.h5"), "--frames", "4"]
    assert main([*command, "--labels", "none"]) == 0
    with h5py.File(tmp_path / "c.h5") as file:
        assert "Y" not in file


def test_an_estimate_without_a_prediction():
    expected = "would take 2.0 KiB (now 1.0 KiB) and about 0.5 s to write"
    assert cli._estimate_text(Estimate(1024, 2048, 0.5)) == expected
    text = cli._estimate_text(Estimate(1024, 2048, 0.5, 30.0, unit="frames"))
    assert text.startswith(f"{expected}, and would be read at about 30 frames/s")
    assert "(now" not in text.removeprefix(expected)


@pytest.mark.parametrize("arguments", [["--debug", "inspect"], ["inspect", "--debug"]])
def test_debug_shows_the_traceback(tmp_path, arguments):
    result = run(*arguments, tmp_path / "none.h5")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "VideoFileNotFoundError" in result.stderr


def test_as_a_module_and_into_a_closed_pipe(tmp_path):
    file = write_video_file(tmp_path / "a.h5")
    assert run("inspect", file).stdout.startswith(f"{file}: ")
    assert run("--version").stdout.strip() == __version__
    read_end, write_end = os.pipe()
    os.close(read_end)
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    result = subprocess.run(
        [sys.executable, "-m", "h5video_data", "inspect", file],
        stdout=write_end,
        stderr=subprocess.PIPE,
        env=buffered,
        timeout=250,
        check=False,
    )
    os.close(write_end)
    assert b"Traceback" not in result.stderr
    assert b"BrokenPipe" not in result.stderr


def test_help_names_all_commands(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert all(command in printed for command in ("inspect", "repack", " pack", "demo"))
