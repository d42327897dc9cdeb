import json
import os
import re
import subprocess
import sys

import h5py
import pytest

from h5video_data import __version__
from h5video_data.testing import write_video_file
from h5video_data.tools.cli import in_flags, main


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
    import numpy as np

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
    "pack wrong size": (["pack", ".", "a", "--size", "big"], 2, "invalid _size value: 'big'"),
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
    assert code == 2 or len(lines) == 1
    # No Python arguments, but for what the message quotes.
    unquoted = re.sub(r"'[^']*'", "", lines[-1])
    assert not re.search(r"`|[a-z_]+=\w", unquoted), lines[-1]
    assert not list(tmp_path.glob("out.h5*"))


MESSAGES = {
    "a flag": ("overwrite=True", "--overwrite"),
    "no value": ("compression=None", "--compression none"),
    "a list": ("Received: x=['a b', \"c'd\"]", "Received: --x 'a b' --x 'c'\"'\"'d'"),
    "a pair": ("(size=(8, 96), stride=2)", "(--size 8x96, --stride 2)"),
    "quoted": ("it's 'x=3 `x`', `x`'s", "it's 'x=3 `x`', --x's"),
    "a path": ("/data/x=3/a.h5 x=3 `x`", "/data/x=3/a.h5 --x 3 --x"),
    "no literal": ("size=(n m), size=(n, m), x=X", None),
    "others": ("`h5clear -s`, `sample_count`, y='Y', A=FALSE", None),
}


@pytest.mark.parametrize(("message", "expected"), MESSAGES.values(), ids=MESSAGES)
def test_python_arguments_become_flags(message, expected):
    names = ("overwrite", "compression", "x", "size", "stride")
    assert in_flags(message, {name: f"--{name}" for name in names}) == (expected or message)


def test_reasons_for_skipping_name_flags(tmp_path, capsys):
    write_video_file(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        layout = h5py.VirtualLayout((20 << 30, 3), "u1")
        file["few"] = [[1, 2, 3]]
        layout[:1] = h5py.VirtualSource(file["few"])
        file.create_virtual_dataset("many values", layout)
    assert main(["repack", str(tmp_path / "a.h5"), str(tmp_path / "b.h5"), "--quiet"]) == 0
    assert "repack it by itself: --x '/many values'\n" in capsys.readouterr().err


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
