"""The benchmark suite: contenders, turns, processes, report and command line, all tiny."""

import contextlib
import importlib
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
from benchmarks import contenders, machine, measure, processes, rounds, suite
from benchmarks.checks import compare, stored_digests
from benchmarks.contenders import CONTENDERS, Contender, Job, parse
from benchmarks.measure import Feed, Turn
from benchmarks.processes import ContenderError, Worker
from benchmarks.rounds import measure_layout
from benchmarks.video_set import make_set
from benchmarks.worker import SkippedError, open_here

SHAPE = (2, 3, 16, 16)
NUM, BATCH = 24, 4

# Whoever needs none of the packages that are compared with.
HERE = [name for name, contender in CONTENDERS.items() if not contender.needs]

# Warnings of other packages are theirs.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*CUDA")


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(measure, "MIN_STEPS", 2)
    monkeypatch.setattr(rounds, "PAUSE_SECONDS", 0.0)


def job_of(path, folder, **options):
    return Job(**{
        "path": path, "folder": folder, "num_samples": NUM, "batch_size": BATCH, "num_threads": 2,
        **options,
    })  # fmt: skip


@pytest.mark.tf
@pytest.mark.parametrize("layout", ["contiguous", "gzip", "many"])
@pytest.mark.parametrize("name", CONTENDERS)
def test_contenders_deliver_every_sample_once_in_random_order(tmp_path, name, layout):
    # Two samples more than take part.
    path = make_set(tmp_path, layout, NUM if name.endswith("blocks") else NUM + 2, SHAPE)
    job = job_of(path, tmp_path)
    stored = stored_digests(path, NUM)
    try:
        with open_here(name, job) as feed:
            for _ in range(2):
                result = feed.take_turn(Turn(max_seconds=60, with_digests=True))
                assert result.is_whole
                assert result.num_batches == NUM // BATCH
                compare(result.digests, stored, is_whole_epoch=True)
            busy = feed.take_turn(Turn(min_seconds=0.1, max_seconds=60, step_seconds=0.002))
            assert 0 < busy.utilisation <= 1
    except SkippedError as error:
        reason = str(error)
        missing = [need for need in CONTENDERS[name].needs if not importlib.util.find_spec(need)]
        expected = [f"{need} is not installed: {contenders.INSTALL}" for need in missing]
        if name == "h5video_data-blocks":
            expected.append("for files whose chunks hold many samples, all of which take part")
        if reason not in expected:
            raise
    left = {item.name for item in tmp_path.iterdir()}
    assert left == {os.path.basename(path)}


@pytest.mark.parametrize("name", ["torch", "grain"])
def test_worker_processes_deliver_the_same(tmp_path, name):
    pytest.importorskip(name)
    path = make_set(tmp_path, "gzip", NUM, SHAPE)
    for workers in (0, 2):
        with open_here(name, job_of(path, tmp_path, workers=workers)) as feed:
            for _ in range(2):
                digests = feed.take_turn(Turn(max_seconds=60, with_digests=True)).digests
                compare(digests, stored_digests(path, NUM), is_whole_epoch=True)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("tfrecord", "lzf"),
        ("tensorstore", "lzf"),
        ("tfio", "zstd"),
        ("h5video_data-blocks", "gzip"),
    ],
)
def test_who_cannot_take_part_says_why(tmp_path, name, layout):
    path = make_set(tmp_path, layout, NUM, SHAPE)
    contender = CONTENDERS[name]
    module = importlib.import_module(f"benchmarks.contenders.{contender.module}")
    arguments = [job_of(path, tmp_path)] + [contender.variant] * bool(contender.variant)
    assert len(module.why_not(*arguments)) > 20


def test_a_broken_installation_is_said(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_peer.py").write_text("raise OSError('libcudnn.so.9: cannot open')")
    contender = Contender("plain", "", needs=("broken_peer",), variant="bare")
    assert contender.why_not(None) == (
        "broken_peer cannot be imported: OSError: libcudnn.so.9: cannot open"
    )


def test_names_of_contenders():
    assert parse("torch") == ("torch", None)
    assert parse("torch:0") == ("torch", 0)
    for wrong in ("tourch", "torch:", "torch:two"):
        with pytest.raises(ValueError, match="NAME or NAME:WORKERS"):
            parse(wrong)


# Contenders that are wrong, each in a way of its own.
def _wrong(path, fault):
    with h5py.File(path) as file:
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
    return [(clips[i], labels[i]) for i in order.reshape(-1, BATCH)]


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
def open_feed(job, variant):
    """As the module of a contender: the tests put this file into the registry."""
    yield Feed(_wrong(job.path, variant))


@pytest.mark.tf
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_contender_fails_loudly(fault, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "benchmarks.contenders.wrong", sys.modules[__name__])
    monkeypatch.setitem(CONTENDERS, "wrong", Contender("wrong", "", variant=fault))
    options = ["--contenders", "wrong", "read_direct", "--layouts", "contiguous", "--one-process"]
    assert run_tiny(*options) == 1
    out, err = capsys.readouterr()
    words = " ".join(out.split())
    assert re.search(rf"wrong FAILED: .*{FAULTS[fault]}", words)
    assert re.search(rf"wrong: FAILED: .*{FAULTS[fault]}", err)
    # The others go on.
    assert re.search(r"read_direct +[\d,]+ ±", out)


def run_tiny(*options):
    shape = [str(n) for n in SHAPE]
    return command.main(
        [
            *options, "--samples", str(NUM), "--batch-size", str(BATCH), "--sample-shape", *shape,
            "--epochs", "2", "--seconds", "0", "5", "60",
        ]
    )  # fmt: skip


@pytest.mark.tf
def test_the_whole_suite(tmp_path, capsys):
    out, picture = tmp_path / "out.json", tmp_path / "out.png"
    code = run_tiny(
        "--contenders", "h5video_data", "h5video_data-blocks", "plain", "plain-keras", "torch:2",
        "--layouts", "contiguous", "many", "--one-process", "--accelerator", "emulated:0.001",
        "--seconds", "0.05", "5", "60", "--json", str(out), "--plot", str(picture),
    )  # fmt: skip
    text, progress = capsys.readouterr()
    assert code == 0
    assert "round 2/2: plain:" in progress
    assert "24 samples are right" in progress
    report = json.loads(out.read_text())
    assert {"processors", "memory_gib", "kernel", "file_system"} <= report["machine"].keys()
    assert report["versions"]["h5py"] == h5py.__version__
    assert report["memory_copy"] > 0
    assert [layout["layout"] for layout in report["layouts"]] == ["contiguous", "many"]
    for layout in report["layouts"]:
        rows = {row["contender"]: row for row in layout["rows"]}
        assert layout["num_samples"] == NUM
        assert layout["limit"][0] > 0
        assert rows["plain"]["times_plain"] == 1
        assert rows["h5video_data"]["checked_samples"] == NUM
        assert rows["h5video_data"]["of_limit"] > 0
        assert 0 < rows["plain"]["utilisation"][0] <= 1
        blocks = rows["h5video_data-blocks"]
        assert (blocks["skipped"] is None) == (layout["layout"] == "many")
        measured = [row for row in rows.values() if not row["skipped"]]
        # Two rounds, each with a turn at full speed and one with the accelerator.
        assert len(layout["runs"]) == 2 * 2 * len(measured)
        assert all(run["seconds"] > 0 for run in layout["runs"])
    assert re.search(
        r"^h5video_data +[\d,]+ ± +[\d,]+ +\d+\.\d +\d\.\d\d +\d+% +\d+ ms", text, re.M
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000
    if not importlib.util.find_spec("torch"):
        line = "skipped: torch:2: torch is not installed: pip install '.[bench]'"
        assert text.count(line) == 2


def test_a_run_that_is_broken_off_keeps_what_it_has_measured(tmp_path, monkeypatch):
    def measure(layout, *arguments):
        if layout == "many":
            raise SystemExit(143)
        return measure_layout(layout, *arguments)

    monkeypatch.setattr(suite, "measure_layout", measure)
    out = tmp_path / "out.json"
    options = ["--contenders", "plain", "--layouts", "contiguous", "many", "--one-process"]
    with pytest.raises(SystemExit):
        run_tiny(*options, "--json", str(out))
    (layout,) = json.loads(out.read_text())["layouts"]
    assert layout["layout"] == "contiguous"


@pytest.mark.slow
def test_contenders_in_processes_of_their_own(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "kept"
    options = ["--contenders", "h5video_data", "tfio", "--layouts", "gzip", "--cold"]
    assert run_tiny(*options, "--folder", "kept", "--tfio", "none") == 0
    text = capsys.readouterr().out
    assert "page cache dropped" in text
    assert "skipped: tfio: it needs an environment of its own, which this makes: python -m" in text
    assert sorted(item.suffix for item in folder.iterdir()) == [".h5", ".log"]


@pytest.mark.tf
def test_a_file_of_the_users(tmp_path, capsys):
    path = make_set(tmp_path, "lzf", NUM + 3, SHAPE)
    options = ["--contenders", "plain", "h5video_data", "--one-process"]
    assert run_tiny(path, *options) == 0
    text = capsys.readouterr().out
    assert f"{NUM} samples (of {NUM + 3}) of (2, 3, 16, 16) uint8" in text
    assert os.path.exists(path)


@pytest.mark.parametrize(
    ("lengths", "text"),
    [
        ({"Y": 30}, "there should be a dataset 'X'"),
        ({"X": 30}, "there should be a dataset 'Y'"),
        ({"X": 30, "Y": 29}, "as many in both"),
        ({"X": 7, "Y": 7}, "two batches at the least. Received: 7 samples"),
    ],
    ids=["no X", "no Y", "lengths", "too few"],
)
def test_a_file_that_will_not_do(tmp_path, capsys, lengths, text):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        for name, length in lengths.items():
            file[name] = np.zeros((length, 2), np.float32)
    assert run_tiny(str(path), "--one-process") == 2
    assert text in capsys.readouterr().err


def test_no_file_and_no_space(tmp_path, capsys, monkeypatch):
    assert run_tiny(str(tmp_path / "none.h5")) == 2
    assert "none.h5" in capsys.readouterr().err
    monkeypatch.setattr(suite.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    assert run_tiny("--layouts", "gzip") == 2
    assert "choose another --folder or fewer --samples" in capsys.readouterr().err.lower()


@pytest.mark.parametrize(
    "options",
    [
        ["--contenders", "nobody"],
        ["--accelerator", "emulated:warp"],
        ["--accelerator", "tpu"],
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


def test_a_process_that_dies_is_said(tmp_path):
    path = make_set(tmp_path, "contiguous", NUM, SHAPE)
    log = tmp_path / "log"
    with Worker(sys.executable, log) as worker:
        with (
            pytest.raises(ContenderError, match="KeyError: 'nobody'"),
            worker.open_feed("nobody", job_of(path, tmp_path)),
        ):
            pass
        assert "Traceback" in log.read_text()
        os.killpg(worker.pid, signal.SIGABRT)
        with (
            pytest.raises(ContenderError, match=r"ended with code -6; its last words: "),
            worker.open_feed("plain", job_of(path, tmp_path)),
        ):
            pass


def test_a_process_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", 0.02)
    path = make_set(tmp_path, "contiguous", NUM, SHAPE)
    with Worker(sys.executable, tmp_path / "log") as worker:
        os.killpg(worker.pid, signal.SIGSTOP)
        with (
            pytest.raises(ContenderError, match="no answer within 0 s"),
            worker.open_feed("plain", job_of(path, tmp_path)),
        ):
            pass


def test_the_machine_is_described(tmp_path):
    found = machine.machine(tmp_path)
    assert found["processors"] >= 1
    assert found["file_system"] != "unknown"
    assert "tensorflow" in machine.versions()
