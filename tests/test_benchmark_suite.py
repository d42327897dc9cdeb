"""The benchmark suite: contenders, processes, report and command line, all tiny."""

import contextlib
import importlib.util
import json
import os
import re
import signal
import sys

import h5py
import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import measure, processes, suite
from benchmarks.checks import compare, stored_digests
from benchmarks.contenders import CONTENDERS, INSTALL, Contender, Job, SkippedError, parse
from benchmarks.measure import Feed, Turn
from benchmarks.processes import ContenderError, open_process
from benchmarks.suite import measure_layout
from benchmarks.tfio import setup
from benchmarks.video_set import make_set

SHAPE = (2, 3, 16, 16)
NUM, BATCH = 24, 4

# Warnings of other packages are theirs.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*CUDA")


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(measure, "MIN_STEPS", 2)
    monkeypatch.setattr(suite, "PAUSE_SECONDS", 0.0)


@pytest.fixture
def one_process(monkeypatch):
    monkeypatch.setattr(suite, "open_process", lambda name, job, _: CONTENDERS[name].open(job))


def job_of(path, folder, **options):
    return Job(path, str(folder), NUM, BATCH, num_threads=2, **options)


@pytest.mark.tf
@pytest.mark.parametrize("layout", ["contiguous", "gzip", "many"])
@pytest.mark.parametrize("name", CONTENDERS)
def test_contenders_deliver_every_sample_once_in_random_order(tmp_path, name, layout):
    needs = CONTENDERS[name].needs
    if needs and not importlib.util.find_spec(needs):
        pytest.skip(f"{needs} is not installed")
    if name == "h5video_data-blocks" and layout != "many":
        pytest.skip("blocks are for chunks of many samples")
    # Two samples more than take part.
    path = make_set(tmp_path, layout, NUM if name.endswith("blocks") else NUM + 2, SHAPE)
    with CONTENDERS[name].open(job_of(path, tmp_path)) as feed:
        for _ in range(2):
            result = feed.take_turn(Turn(max_seconds=60, with_digests=True))
            assert result.is_whole
            assert result.num_batches == NUM // BATCH
            compare(result.digests, stored_digests(path, NUM), is_whole_epoch=True)
        busy = feed.take_turn(Turn(min_seconds=0.1, max_seconds=60, step_seconds=0.002))
        assert 0 < busy.utilisation <= 1
    assert {item.name for item in tmp_path.iterdir()} == {os.path.basename(path)}


@pytest.mark.parametrize("name", ["torch", "grain"])
def test_worker_processes_deliver_the_same(tmp_path, name):
    pytest.importorskip(name)
    path = make_set(tmp_path, "gzip", NUM, SHAPE)
    for workers in (0, 2):
        with CONTENDERS[name].open(job_of(path, tmp_path, workers=workers)) as feed:
            for _ in range(2):
                digests = feed.take_turn(Turn(max_seconds=60, with_digests=True)).digests
                compare(digests, stored_digests(path, NUM), is_whole_epoch=True)


@pytest.mark.parametrize(
    ("name", "layout", "text"),
    [
        pytest.param(
            *("tfrecord", "lzf", "TFRecord files have no compression but gzip"),
            marks=pytest.mark.tf,
        ),
        ("h5video_data-blocks", "gzip", "for files whose chunks hold many samples"),
    ],
)
def test_who_cannot_take_part_says_why(tmp_path, name, layout, text):
    path = make_set(tmp_path, layout, NUM, SHAPE)
    with pytest.raises(SkippedError, match=text), CONTENDERS[name].open(job_of(path, tmp_path)):
        pass


def test_a_package_that_is_broken_or_not_there_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_peer.py").write_text("raise OSError('libcudnn.so.9:\\ncannot open')")
    for name, error in {
        "broken_peer": "OSError: libcudnn.so.9: cannot open",
        "missing_peer": "ModuleNotFoundError: No module named 'missing_peer'",
    }.items():
        contender = Contender(open_wrong, needs=name)
        with pytest.raises(SkippedError) as caught, contender.open(None):
            pass
        assert str(caught.value) == f"{name} cannot be imported: {error}: {INSTALL}"


def test_names_of_contenders():
    assert parse("torch") == ("torch", None)
    assert parse("torch:0") == ("torch", 0)
    for wrong in ("tourch", "torch:", "torch:two"):
        with pytest.raises(ValueError, match="NAME or NAME:WORKERS"):
            parse(wrong)


# Contenders that are wrong, each in a way of its own.
FAULTS = {
    "drops a batch": "4 did not come",
    "repeats a sample": "1 came more than once, 1 did not come",
    "corrupts a byte": "1 are not in the file, or changed",
    "swaps labels": "2 are not in the file",
    "does not shuffle": "not shuffled",
    "casts": "24 are not in the file",
    "raises": "OSError: no such device",
}


@contextlib.contextmanager
def open_wrong(job, fault):
    with h5py.File(job.path) as file:
        clips, labels = file["X"][:NUM], file["Y"][:NUM]
    order = np.random.default_rng(1).permutation(NUM)
    if fault == "drops a batch":
        order = order[BATCH:]
    if fault == "repeats a sample":
        order[5] = order[6]
    if fault == "corrupts a byte":
        clips[7, 1, 1, 3, 3] += 1
    if fault == "swaps labels":
        labels[[2, 3]] = labels[[3, 2]]
    if fault == "does not shuffle":
        order = np.arange(NUM)
    if fault == "casts":
        clips = clips.astype(np.float32)
    if fault == "raises":
        raise OSError("no such device")
    yield Feed([(clips[i], labels[i]) for i in order.reshape(-1, BATCH)])


@pytest.mark.usefixtures("one_process")
@pytest.mark.tf
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_contender_is_an_exit_code(fault, monkeypatch, capsys):
    wrong = Contender(lambda job: open_wrong(job, fault))
    monkeypatch.setitem(CONTENDERS, "wrong", wrong)
    options = ["--contenders", "wrong", "read_direct", "--layouts", "contiguous"]
    assert run_tiny(*options) == 1
    out, err = capsys.readouterr()
    assert re.search(rf"wrong FAILED: .*{FAULTS[fault]}", " ".join(out.split()))
    assert re.search(rf"wrong: FAILED: .*{FAULTS[fault]}", err)
    # The others go on.
    assert re.search(r"read_direct +[\d,]+ ±", out)


@pytest.mark.usefixtures("one_process")
def test_one_that_fails_later_is_an_exit_code(monkeypatch, capsys):
    class Failing(Feed):
        def take_turn(self, turn):
            if not turn.with_digests:
                raise ContenderError("its process ended")
            return super().take_turn(turn)

    @contextlib.contextmanager
    def open_feed(job):
        with open_wrong(job, "") as feed:
            yield Failing(feed.batches)

    monkeypatch.setitem(CONTENDERS, "wrong", Contender(open_feed))
    assert run_tiny("--contenders", "wrong", "--layouts", "gzip") == 1
    assert re.search(r"wrong +FAILED: its process ended", capsys.readouterr().out)


def run_tiny(*options):
    return command.main(
        [
            *options, "--samples", str(NUM), "--batch-size", str(BATCH), "--epochs", "2",
            "--sample-shape", *map(str, SHAPE), "--seconds", "0", "5", "60",
        ]
    )  # fmt: skip


@pytest.mark.usefixtures("one_process")
@pytest.mark.tf
def test_the_whole_suite(tmp_path, capsys):
    out, picture = tmp_path / "out.json", tmp_path / "out.png"
    code = run_tiny(
        "--contenders", "h5video_data", "h5video_data-blocks", "plain", "plain-keras",
        "--layouts", "contiguous", "many", "--accelerator", "emulated:0.001",
        "--json", str(out), "--plot", str(picture),
    )  # fmt: skip
    text = capsys.readouterr().out
    assert code == 0, text
    report = json.loads(out.read_text())
    assert {"machine", "versions", "settings", "load_average_before"} <= set(report)
    assert [layout["layout"] for layout in report["layouts"]] == ["contiguous", "many"]
    for layout in report["layouts"]:
        rows = {row["contender"]: row for row in layout["rows"]}
        assert layout["num_samples"] == NUM
        assert layout["limit"][0] > 0
        assert rows["plain"]["times_plain"] == 1
        assert rows["h5video_data"]["checked_samples"] == NUM
        assert rows["h5video_data"]["of_limit"] > 0
        assert 0 < rows["plain"]["utilisation"][0] <= 1
        assert 0 < layout["resident_utilisation"][0] <= 1
        blocks = rows["h5video_data-blocks"]
        assert (blocks["skipped"] is None) == (layout["layout"] == "many")
        measured = [row for row in rows.values() if not row["skipped"]]
        # Two rounds, each with a turn at full speed and one with the accelerator.
        runs = [run for run in layout["runs"] if run["contender"] in rows]
        assert len(runs) == 2 * 2 * len(measured)
        assert all(run["seconds"] > 0 for run in runs)
        names = [run["contender"] for run in layout["runs"]]
        assert names.count("limit") == names.count("resident") == 2
    assert re.search(
        r"^h5video_data +[\d,]+ ± +[\d,]+ +\d+\.\d +\d\.\d\d +\d+% +\d+ ms", text, re.M
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000


@pytest.mark.usefixtures("one_process")
def test_a_run_that_is_stopped_keeps_what_it_has_measured(tmp_path, monkeypatch):
    def measure(layout, *arguments):
        if layout == "many":
            raise SystemExit(143)
        return measure_layout(layout, *arguments)

    monkeypatch.setattr(command, "measure_layout", measure)
    out = tmp_path / "out.json"
    options = ["--contenders", "plain", "--layouts", "contiguous", "many"]
    with pytest.raises(SystemExit):
        run_tiny(*options, "--json", str(out))
    (layout,) = json.loads(out.read_text())["layouts"]
    assert layout["layout"] == "contiguous"


@pytest.mark.slow
def test_contenders_in_processes_of_their_own(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--contenders", "h5video_data", "tfio", "--layouts", "gzip", "--cold"]
    assert run_tiny(*options, "--temporary", "made", "--tfio", "none") == 0
    text = capsys.readouterr().out
    assert "page cache dropped" in text
    assert "skipped: tfio: it needs an environment of its own, which this makes: python -m" in text
    assert not list((tmp_path / "made").iterdir())


@pytest.mark.usefixtures("one_process")
@pytest.mark.tf
def test_a_file_of_the_users(tmp_path, capsys):
    path = make_set(tmp_path, "lzf", NUM + 3, SHAPE)
    options = ["--contenders", "plain", "h5video_data"]
    assert run_tiny(path, *options, "--temporary", str(tmp_path / "made")) == 0
    text = capsys.readouterr().out
    assert f"{NUM} samples (of {NUM + 3}) of (2, 3, 16, 16) uint8" in text
    assert os.path.exists(path)
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.parametrize(
    ("lengths", "text"),
    [
        ({"Y": 30}, "datasets X and Y"),
        ({"X": 30}, "datasets X and Y"),
        ({"X": 30, "Y": 29}, r"same number of samples are needed. Received: \(30, 2\), \(29, 2\)"),
        ({"X": 7, "Y": 7}, "at least two batches. Received: 7 samples"),
    ],
    ids=["no X", "no Y", "lengths", "too few"],
)
def test_a_file_that_cannot_be_measured(tmp_path, capsys, lengths, text):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        for name, length in lengths.items():
            file[name] = np.zeros((length, 2), np.float32)
    assert run_tiny(str(path)) == 2
    assert re.search(text, capsys.readouterr().err)


def test_no_file(tmp_path, capsys):
    assert run_tiny(str(tmp_path / "none.h5")) == 2
    assert "none.h5" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--contenders", "nobody"],
        ["--accelerator", "emulated:warp"],
        ["--accelerator", "gpu"],
        ["--batch-size", "0"],
        ["--sample-shape", "1", "1", "0", "1"],
        ["--layouts", "striped"],
        ["--json", "no/such/folder/out.json"],
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense(options, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(options)
    assert stop.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_process_that_fails_says_so(tmp_path, capsys):
    path = make_set(tmp_path, "contiguous", NUM, SHAPE)
    with (
        pytest.raises(ContenderError, match="KeyError: 'nobody'"),
        open_process("nobody", job_of(path, tmp_path), sys.executable),
    ):
        pass
    assert "Traceback" in capsys.readouterr().err
    with (
        pytest.raises(ContenderError, match="its process ended with code 1"),
        open_process("plain", "no job", "/bin/false"),
    ):
        pass


@pytest.mark.slow
def test_a_process_that_hangs_is_ended(tmp_path, monkeypatch):
    path = make_set(tmp_path, "contiguous", NUM, SHAPE)
    with open_process("read_direct", job_of(path, tmp_path), sys.executable) as feed:
        monkeypatch.setattr(processes, "PATIENCE_SECONDS", 0.02)
        os.killpg(feed.pid, signal.SIGSTOP)
        with pytest.raises(ContenderError, match="no answer within 0 s"):
            feed.take_turn(Turn(max_seconds=0))
    with pytest.raises(ProcessLookupError):
        os.kill(feed.pid, 0)


def test_tfio_needs_a_python_that_it_has_wheels_for(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(setup, "PYTHONS", ("9.99",))
    assert setup.find_python() is None
    assert setup.main([str(tmp_path / "env")]) == setup.NO_PYTHON
    assert "no Python of 9.99, which tensorflow-io has wheels for" in capsys.readouterr().out
    assert not (tmp_path / "env").exists()


def test_half_an_environment_is_removed(capsys, tmp_path, monkeypatch):
    folder = tmp_path / "env"
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nmkdir -p "$4" && touch "$4/pyvenv.cfg"')
    python.chmod(0o755)
    monkeypatch.setattr(setup, "find_python", lambda: str(python))
    assert setup.main([str(folder)]) == 1
    text = capsys.readouterr().out
    assert f"+ {python} -m venv --clear {folder}" in text
    assert "that failed" in text
    assert not folder.exists()


def test_another_folder_is_left_alone(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "find_python", lambda: sys.executable)
    (tmp_path / "thesis.tex").write_text("all of it")
    assert setup.main([str(tmp_path)]) == 1
    assert "is no virtual environment" in capsys.readouterr().out
    assert (tmp_path / "thesis.tex").read_text() == "all of it"
