import json
import os
import subprocess
import sys

import pytest

from h5video_data.testing import write_video_file
from h5video_data.tools.cli import main


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
    assert "packing" in printed.err
    assert main(["inspect", str(out)]) == 0
    assert "X: (6, 4, 3, 24, 32) uint8" in capsys.readouterr().out
    arguments += ["--overwrite", "--quiet", "--compression", "gzip"]
    assert main(["pack", str(tmp_path / "videos"), str(out), *arguments]) == 0
    assert "packing" not in capsys.readouterr().err
    assert main(["inspect", str(out)]) == 0
    assert "chunks (1, 4, 3, 24, 32), filters deflate" in capsys.readouterr().out


ERRORS = {
    "missing_file": (["inspect", "none.h5"], 1, "No such file"),
    "not_hdf5": (["inspect", "text.h5"], 1, "is not an HDF5 file"),
    "no_classes": (["pack", ".", "out.h5"], 1, "Expected one sub-folder per class"),
    "no_folder": (["pack", "nowhere", "out.h5"], 1, "There is no folder nowhere"),
    "wrong_frames": (["pack", ".", "out.h5", "--frames", "0"], 1, "num_frames=0"),
    "wrong_size": (["pack", ".", "out.h5", "--size", "big"], 2, "invalid _size value: 'big'"),
    "repack_wrong": (["repack", "none.h5", "out.h5"], 1, "No such file"),
    "repack_onto_itself": (["repack", "set.h5", "./set.h5"], 1, "must not be a file that is read"),
    "repack_one_name": (["repack", "set.h5"], 2, "the following arguments are required: OUT.h5"),
    "repack_zip": (["repack", "a", "b", "--compression", "zip"], 2, "invalid choice: 'zip'"),
    "no_command": ([], 2, "the following arguments are required: COMMAND"),
    "unknown_command": (["unpack"], 2, "invalid choice: 'unpack'"),
    "no_file": (["inspect"], 2, "the following arguments are required: FILE"),
}


@pytest.mark.parametrize(("arguments", "code", "message"), ERRORS.values(), ids=ERRORS)
def test_errors_are_one_clear_line(tmp_path, monkeypatch, capsys, arguments, code, message):
    (tmp_path / "text.h5").write_text("hello")
    write_video_file(tmp_path / "set.h5")
    monkeypatch.chdir(tmp_path)
    try:
        found = main(arguments)
    except SystemExit as error:
        found = error.code
    printed = capsys.readouterr()
    assert (found, printed.out) == (code, "")
    lines = printed.err.splitlines()
    assert message in lines[-1]
    assert "Traceback" not in printed.err
    assert code == 2 or len(lines) == 1
    assert not list(tmp_path.glob("out.h5*"))


@pytest.mark.parametrize("arguments", [["--debug", "inspect"], ["inspect", "--debug"]])
def test_debug_shows_the_traceback(tmp_path, arguments):
    result = run(*arguments, tmp_path / "none.h5")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "VideoFileNotFoundError" in result.stderr


def test_as_a_module_and_into_a_closed_pipe(tmp_path):
    file = write_video_file(tmp_path / "a.h5")
    assert run("inspect", file).stdout.startswith(f"{file}: ")
    assert run("--version").stdout.strip() == "0.1.0"
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
