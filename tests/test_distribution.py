"""TensorFlow's strategies, end to end: what each replica of each worker is given, in all epochs.

The work is done by distribution_script.py, in processes of its own.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tensorflow as tf

import h5video_data as h5v
from h5video_data.errors import ArgumentError
from h5video_data.testing import write_video_file

NUM_SAMPLES = 46
EPOCHS = 3
ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return write_video_file(
        folder / "a.h5", num_samples=NUM_SAMPLES, sample_shape=(2, 1, 4, 4), num_classes=4
    )


def run(scenario, path, folder):
    # In a group of its own: whatever goes wrong, no worker is left behind.
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/distribution_script.py"), scenario, path, str(folder)],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=250)
    finally:
        end_group(process)
    assert process.returncode == 0, errors[-3000:]


def end_group(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def expected_steps(path, batch_size=12, seed=3):
    """The samples of each step, of all epochs."""
    loader = h5v.VideoLoader(path, batch_size=batch_size, seed=seed)
    return [indices.tolist() for _ in range(EPOCHS) for _, indices, _ in loader.batches()]


def read_json(path):
    return json.loads(path.read_text())


def flat(parts):
    return [number for part in parts for number in part]


def sizes(parts):
    return sorted((len(part) for part in parts if part), reverse=True)


def test_the_replicas_of_one_machine(path, tmp_path):
    run("one_machine", path, tmp_path)
    two, three = read_json(tmp_path / "found.2.json"), read_json(tmp_path / "found.3.json")
    cases = {
        ("fit keras 2 12", 4): (two, [5, 5]),
        ("fit tf_keras 2 12", 4): (two, [5, 5]),
        ("plain loop 2 12", 4): (two, [5, 5]),
        ("context loop 2 12", 4): (two, [5, 5]),
        ("fit keras 3 15", 4): (three, [1]),
        ("plain loop 3 15", 4): (three, [1]),
        ("plain loop 3 12", 4): (three, [4, 4, 2]),
        ("context loop 3 12", 4): (three, [4, 3, 3]),
        ("context loop 3 15", 4): (three, [1, 1, 1]),
    }
    assert {name for name, _ in cases} == two.keys() | three.keys()
    for (name, steps_per_epoch), (found, last) in cases.items():
        replicas, batch_size = (int(number) for number in name.split()[-2:])
        expected = expected_steps(path, batch_size)
        assert len(found[name]) == len(expected) == steps_per_epoch * EPOCHS
        for step, (parts, batch) in enumerate(zip(found[name], expected, strict=True)):
            is_last = step % steps_per_epoch == steps_per_epoch - 1
            assert sizes(parts) == (last if is_last else [batch_size // replicas] * replicas)
            if "context" in name and is_last and last == [1, 1, 1]:
                assert set(flat(parts)) == set(batch)  # fewer samples than replicas
            else:
                assert sorted(flat(parts)) == sorted(batch)


def logged_steps(folder, num_runs):
    """The samples of each step, of those whose weights counted in the end."""
    steps = {}
    for number in range(num_runs):
        of_run = {}
        for file in sorted(folder.glob(f"log.{number}.*")):
            for line in file.read_text().splitlines():
                step, numbers = json.loads(line)
                of_run.setdefault(step, []).extend(numbers)
        steps = {step: numbers for step, numbers in steps.items() if step < min(of_run)}
        steps |= of_run
    assert sorted(steps) == list(range(len(steps)))
    return [sorted(steps[step]) for step in range(len(steps))]


def test_one_machine_is_killed_and_goes_on(path, tmp_path):
    run("one_machine_killed", path, tmp_path)
    assert logged_steps(tmp_path, 3) == [sorted(batch) for batch in expected_steps(path)]
    assert not (tmp_path / "feed.json").exists()


def test_several_machines(path, tmp_path):
    run("several_machines", path, tmp_path)
    workers = [read_json(tmp_path / f"found.{worker}.json") for worker in range(2)]
    for name in ("loop", "fit on shares", "fit on a plain dataset"):
        steps = [[flat(parts) for parts in worker[name]] for worker in workers]
        assert [first + second for first, second in zip(*steps, strict=True)] == (
            expected_steps(path)
        ), name
    assert workers[0]["loop weights"] == workers[1]["loop weights"]
    # Each reads what it uses, and nothing else.
    assert sorted(workers[0]["own"] + workers[1]["own"]) == list(range(NUM_SAMPLES))
    assert [worker["read"] for worker in workers] == [2 * 1 * 4 * 4] * 2


def test_workers_are_killed_and_one_of_them_goes_on_alone(path, tmp_path):
    run("several_machines_killed", path, tmp_path)
    assert logged_steps(tmp_path, 3) == [sorted(batch) for batch in expected_steps(path)]
    assert not (tmp_path / "feed.json").exists()


def test_workers_must_agree_on_the_order(path):
    def make(**options):
        context = tf.distribute.InputContext(2, 0, 2)
        return h5v.VideoLoader(path, batch_size=12, input_context=context, **options)

    for shuffle in (True, "exact", "blocks"):
        with pytest.raises(ArgumentError, match="`seed` must be given, the same on all of them"):
            make(shuffle=shuffle)
    assert make(shuffle=False).steps_per_epoch == make(seed=0).steps_per_epoch == 4
    one_worker = tf.distribute.InputContext(1, 0, 2)
    assert h5v.VideoLoader(path, batch_size=12, input_context=one_worker).steps_per_epoch == 8


@pytest.mark.parametrize("context", [None, tf.distribute.InputContext(2, 1, 2)])
def test_tensorflow_divides_only_what_is_not_divided(path, context):
    dataset = h5v.video_dataset_from_hdf5(path, batch_size=12, seed=0, input_context=context)
    policy = dataset.options().experimental_distribute.auto_shard_policy
    policies = tf.data.experimental.AutoShardPolicy
    assert policy == (policies.DATA if context is None else policies.OFF)


# The examples


def test_the_example_for_several_gpus(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/several_gpus.py"), "--cpus", "2", "--epochs", "2"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "trained on 2 devices" in done.stdout
    assert "val_loss" in done.stdout
    assert not (tmp_path / "training/feed.json").exists()


def test_the_example_for_several_machines_survives_the_loss_of_a_worker(tmp_path):
    options = ["--local", "2", "--epochs", "8", "--save-every", "2", "--folder", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "examples/several_machines.py"), *options],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    watch = threading.Timer(150, lambda: end_group(process))
    watch.start()
    lines, workers, killed = [], {}, False
    try:
        for line in process.stdout:
            lines.append(line.strip())
            if match := re.match(r"worker (\d) is process (\d+)", line):
                workers[match[1]] = int(match[2])
            elif line.startswith("epoch 2") and not killed:
                os.kill(workers["1"], signal.SIGKILL)
                killed = True
        process.wait()
    finally:
        watch.cancel()
        end_group(process)
        process.stdout.close()
    text = "\n".join(lines)
    assert process.returncode == 0, text
    assert lines.count("a worker has died: all workers are restarted") == 1
    place = r"resumes in (epoch \d+ after \d+ samples)"  # both may print at once
    first, second = (re.search(f"worker {i} {place}", text)[1] for i in range(2))
    assert first == second
    epochs = [int(epoch) for epoch in re.findall(r"^epoch (\d+)", text, re.MULTILINE)]
    assert sorted(set(epochs)) == list(range(1, 9))
