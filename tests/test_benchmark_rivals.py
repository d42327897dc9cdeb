"""Rivals that several benchmarks share, and zea's loader on its own files."""

import functools
import re

import numpy as np
import pytest

from benchmarks import measure, rivals
from h5video_data.storage.pictures.codecs import encode_picture

FRAME = (24, 16, 3)


def test_the_fastest_of_several_settings_is_taken(monkeypatch):
    turns = {"slow": [1.0, 2.0, 9.0], "fast": [7.0, 0.5, 3.0], "even": [1.0, 2.5, 2.5]}
    monkeypatch.setattr(rivals, "drain", lambda name: turns[name].pop())
    # The best of the last two of each, as `pop` gives them.
    name, measure = rivals.fastest({"slow": lambda: "slow", "fast": lambda: "fast"})
    assert name == "slow"
    assert measure() == 1.0
    turns["slow"] = [2.0, 2.9, 1.0]
    turns["fast"] = [7.0, 0.5, 3.0]
    name, measure = rivals.fastest({n: functools.partial(str, n) for n in turns})
    assert name == "fast"
    assert measure() == 7.0


@pytest.fixture
def samples(tmp_path):
    pytest.importorskip("lance")
    pictures = [encode_picture(np.full(FRAME, 20 * n, np.uint8)) for n in range(12)]
    path = rivals.write_lance(tmp_path / "pictures.lance", iter(pictures))
    assert rivals.folder_bytes(path) > sum(map(len, pictures))
    # Four frames, two rows apart, in no order of the rows.
    return rivals.LanceSamples(path, np.arange(6)[::-1, np.newaxis] + [0, 2, 4, 6], FRAME)


def test_frames_of_lance_come_where_they_belong(samples):
    batch = samples.__getitems__([0, 5, 0])
    assert batch.shape == (3, 4, *FRAME)
    values = np.round(batch.mean((2, 3, 4)) / 20)
    assert values.tolist() == [[5, 7, 9, 11], [0, 2, 4, 6], [5, 7, 9, 11]]


def test_threads_make_each_sample_once_but_for_the_remainder(samples):
    batches = list(rivals.by_threads(samples, 2, 3))
    firsts = np.round(np.concatenate(batches)[:, 0].mean((1, 2, 3)) / 20)
    assert sorted(firsts) == [0, 1, 2, 3, 4, 5]
    assert len(list(rivals.by_threads(samples, 4, 1))) == 1


def test_a_loop_that_stops_early_leaves_no_thread_behind(samples):
    batches = rivals.by_threads(samples, 1, 2)
    next(batches)
    batches.close()
    assert next(rivals.by_threads(samples, 6, 1)).shape == (6, 4, *FRAME)


def test_workers_of_torch_take_batches(samples):
    pytest.importorskip("torch")
    feed = rivals.data_loader(samples, 2, 1, collate_fn=rivals.as_tensor)
    firsts = [round(float(v)) for b in feed for v in b[:, 0].double().mean((1, 2, 3)) / 20]
    assert sorted(firsts) == [0, 1, 2, 3, 4, 5]


def test_an_epoch_of_workers_that_is_broken_off_is_ended():
    order, made = rivals.Order(6), []

    def make(number):
        made.append(number)
        return number

    ahead = map(make, order)  # as with a DataLoader's iterator, nothing closes it
    for first, _ in zip(rivals.WorkerEpochs(ahead, order), range(2), strict=False):
        last = first
    assert len(made) in (2, 3)
    assert last == made[1]
    assert sorted(rivals.WorkerEpochs(order, order)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.tf
def test_zea_is_measured_on_its_own_files(capsys, monkeypatch):
    pytest.importorskip("zea")
    from benchmarks import zea_sequences

    monkeypatch.setattr(measure, "DRAINED_SECONDS", 0.05)
    for name, value in {
        "DRAINED_SECONDS": 0.05,
        "FRAME": (16, 16),
        "LENGTHS": (18, 24),
        "BATCH_SIZE": 2,
        "CHUNK": (1, 16, 16),
    }.items():
        monkeypatch.setattr(zea_sequences, name, value)
    assert zea_sequences.main(["--files", "3", "--rounds", "1", "--threads", "1"]) == 0
    text = capsys.readouterr().out
    assert len(re.findall(r"^  h5video_data +[\d,]+ ±", text, re.MULTILINE)) == 2
    assert len(re.findall(r"^  zea.* +[\d,]+ ±", text, re.MULTILINE)) == 2
    with pytest.raises(ValueError, match="batches differ"):
        zea_sequences.compare(np.zeros(2), np.ones(2))
