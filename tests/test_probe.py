"""The arithmetic of predictions, with a clock that is made up; and a probe of a file."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from decoding_helpers import before_each_chunk
from picture_helpers import save
from PIL import Image

import h5video_data as h5v
from h5video_data.storage.system import disk_nbytes
from h5video_data.testing import write_video_file
from h5video_data.tools.inspecting import probe
from h5video_data.tools.inspecting.facts import decodes_per_epoch
from h5video_data.tools.inspecting.opened_set import OpenedSet
from h5video_data.tools.inspecting.probe import Prediction, disk_part, handed_over, predicted, rate
from h5video_data.tools.inspecting.text import rate_text


class Machine:
    """Batches of 10 samples, of which the first takes a second, and each other one `step`."""

    def __init__(self, step, batches_per_epoch=5):
        self.now, self.step, self.batches = 0.0, step, batches_per_epoch
        self.is_first = True

    def epoch(self):
        for _ in range(self.batches):
            self.now += 1.0 if self.is_first else self.step
            self.is_first = False
            yield 10


@pytest.mark.parametrize("step", [0.01, 0.1, 0.2])
def test_the_start_does_not_count(step):
    machine = Machine(step)
    assert rate(machine.epoch, 2.0, lambda: machine.now) == pytest.approx(10 / step)
    assert machine.now < 2.0 + step


@pytest.mark.parametrize(("num_buffers", "expected"), [(0, 400 / 22), (12, 20), (99, 20)])
def test_memory_that_is_touched_first_does_not_count(num_buffers, expected):
    # A bundle of 10 takes a second at first, then half as long; the warm-up ends at 7.5 s or, while
    # new memory comes in, at 18 s at the latest.
    times = iter([0.0, *range(1, 13), *np.arange(12.5, 31, 0.5)])
    found = rate(lambda: iter([10] * 99), 30.0, lambda: float(next(times)), num_buffers=num_buffers)
    assert found == pytest.approx(expected)


def test_of_few_bundles_all_count():
    # Two threads read one each: they come in pairs, every two seconds.
    times = iter([0.0, 2.0, 2.1, 4.0])
    assert rate(lambda: iter([10] * 9), 3.0, lambda: next(times)) == pytest.approx(30 / 4)


def test_a_batch_that_takes_longer_than_the_probe():
    machine = Machine(3.0)
    found = rate(machine.epoch, 0.5, lambda: machine.now)
    assert 10 / 3 <= found <= 10


def test_no_samples_do_not_hang():
    assert rate(lambda: iter(()), 1.0) == 0


def test_chunks_that_are_decoded_again_cost_as_much():
    assert predicted(600, measured_decodes=1, epoch_decodes=3) == 200
    assert predicted(600, measured_decodes=1, epoch_decodes=1) == 600


def test_the_hand_over_to_tensorflow_counts():
    # A batch of 32 takes 1 ms to read; and 0.1 ms, its part of 0.3 ms, and its part of 5 ms.
    found = handed_over(32_000, batch_size=32, batches_per_bundle=3, num_samples=160)
    assert found == pytest.approx(32 / 2.2e-3)
    # Of slow reading, hardly.
    found = handed_over(100, batch_size=32, batches_per_bundle=1, num_samples=10_000)
    assert found == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize(
    ("after", "nbytes", "expected", "text"),
    [
        (100, 1000, 0.0, "12,000 samples/s from the page cache"),
        (350, 1000, 0.25, "12,000 samples/s, 25% of the bytes from the disk"),
        (1100, 1000, 1.0, "12,000 samples/s from the disk"),
        (3100, 1000, 1.0, "12,000 samples/s from the disk"),  # the system reads ahead
        (None, 1000, None, "12,000 samples/s"),
        (100, 0, None, "12,000 samples/s"),  # all of it is in memory
    ],
)
def test_where_the_bytes_came_from(after, nbytes, expected, text):
    found = disk_part(None if after is None else 100, after, nbytes)
    assert found == expected
    assert rate_text(12_345, found) == text


def test_decodes_per_epoch():
    assert decodes_per_epoch(1000, 10, 10, capacity=1000) == 1
    assert decodes_per_epoch(1000, 10, 1, capacity=0) == 10
    few = decodes_per_epoch(1000, 10, 10, capacity=250)
    assert 1 < few < 10
    # A longer epoch is counted on a part of it.
    assert decodes_per_epoch(100_000, 10, 10, 25_000) == pytest.approx(few, rel=0.1)


@pytest.mark.parametrize("chunks", [None, (1, 4, 3, 8, 8), (10, 4, 3, 8, 8)])
def test_a_probe_of_a_file(tmp_path, monkeypatch, chunks):
    monkeypatch.setattr("h5video_data.tools.inspecting.probe.PROBE_SECONDS", 0.2)
    filters = {"compression": "gzip"} if chunks else {}
    file = write_video_file(tmp_path / "a.h5", num_samples=200, chunks=chunks, **filters)
    report = h5v.inspect(file, probe=True)
    assert report.samples_per_second > 100
    assert report.datasets[0].samples_per_second == report.samples_per_second
    assert "predicted: " in str(report)
    if report.from_disk is not None:
        assert "samples/s from the page cache\n" in str(report)  # it was just written
    assert h5v.inspect(file).samples_per_second is None


@pytest.mark.parametrize("samples_per_chunk", [1, 10])
def test_chunks_of_many_samples_are_timed_whole(tmp_path, monkeypatch, samples_per_chunk):
    # The cache holds all of them, and the first batches of an exact shuffle decode nearly all.
    chunks = (samples_per_chunk, 4, 3, 8, 8)
    file = write_video_file(tmp_path / "a.h5", num_samples=200, chunks=chunks, compression="gzip")
    shuffles = []

    def record(opened, *, shuffle=True, **options):
        shuffles.append(shuffle)
        return loader(opened, shuffle=shuffle, **options)

    loader = OpenedSet.loader
    monkeypatch.setattr(OpenedSet, "loader", record)
    assert probe.probe_loader(file, {"y": None}, 0.1).samples_per_second > 0
    assert shuffles[1] == (samples_per_chunk == 1)
    assert h5v.inspect(file).datasets[0].epoch_amplification == 1


def test_the_prediction_for_the_call_is_that_of_its_dataset(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.zeros((40, 4, 3, 8, 8), "u1")
        file["flow"] = np.zeros((40, 4, 2, 64, 64), "f4")
    report = h5v.inspect(tmp_path / "a.h5", read_ahead_bytes=0, probe=True)
    rates = {item.name: item.samples_per_second for item in report.datasets}
    assert None not in rates.values()
    assert report.samples_per_second == rates["X"]


def test_padded_pictures_are_decoded_by_the_probe(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(
        probe, "probe_set", lambda opened, _: found.append(opened) or Prediction(1.0, None)
    )
    rows = [
        save(Image.fromarray(np.full((16, size, 3), 7, np.uint8)), "PNG") for size in (16, 24) * 4
    ]
    padded = np.zeros((8, max(map(len, rows))), np.uint8)
    for row, data in zip(padded, rows, strict=True):
        row[: len(data)] = np.frombuffer(data, np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = padded
        file["Y"] = np.arange(8)
        file.attrs["sample_count"] = 8
    assert h5v.inspect(tmp_path / "a.h5", probe=True).samples_per_second == 1.0
    (item,) = found[0].components
    assert item.sample_shape == (16, 16, 3)


@pytest.mark.skipif(disk_nbytes() is None, reason="the system does not tell")
def test_a_file_that_the_page_cache_does_not_hold(tmp_path, monkeypatch):
    def drop():
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.05)
    file = write_video_file(tmp_path / "a.h5", num_samples=200, sample_shape=(4, 3, 64, 64))
    drop()
    before = disk_nbytes()
    Path(file).read_bytes()
    if disk_nbytes() == before:
        pytest.skip("the file system is in memory")
    drop()
    assert h5v.inspect(file, probe=True).from_disk > 0


def test_bundles_are_timed_whose_batches_come_all_at_once(tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(probe, "rate", lambda epochs, *_, **__: sizes.extend(epochs()) or 1.0)
    chunks = (1, 4, 3, 8, 8)
    file = write_video_file(tmp_path / "a.h5", num_samples=800, chunks=chunks, compression="gzip")
    assert probe.probe_loader(file, {"y": None}, 1.0) is not None
    assert sizes == [32, *[128] * 6]  # the first one of an epoch is a batch


SLOW = {
    "one sample a chunk": ((1, 4, 3, 8, 8), None, 240, 0.004),
    "a cache that holds all": ((8, 4, 3, 8, 8), None, 240, 0.02),
    "a cache that does not": ((8, 4, 3, 8, 8), 600_000, 960, 0.01),
    "frames apart": ((8, 1, 3, 8, 8), None, 240, 0.005),
}


@pytest.mark.tf
@pytest.mark.parametrize("case", SLOW.values(), ids=SLOW)
def test_what_is_predicted_comes_out_of_tensorflow(tmp_path, monkeypatch, case):
    """Where each chunk takes as long as a sleep, on machines that are busy as well."""
    chunks, read_ahead_bytes, num_samples, seconds = case
    before_each_chunk(monkeypatch, lambda: time.sleep(seconds))
    file = write_video_file(
        tmp_path / "a.h5", num_samples=num_samples, chunks=chunks, compression="gzip"
    )
    options = {"y": None, "read_ahead_bytes": read_ahead_bytes}
    found = probe.probe_loader(file, options, 1.0)
    dataset = h5v.video_dataset_from_hdf5(file, batch_size=32, seed=0, **options)
    steps = sum(1 for _ in dataset)  # warms up
    begin = time.perf_counter()
    count = steps and sum(len(x) for _ in range(2) for x in dataset)
    measured = count / (time.perf_counter() - begin)
    dataset.loader.close()
    assert 1 / 1.5 < found.samples_per_second / measured < 1.5


@pytest.mark.parametrize(
    ("given", "batch_nbytes", "expected"),
    [
        (None, 1 << 19, None),  # the default is no more: 192 batches
        (None, 4 << 20, 128 << 20),
        (None, 40 << 20, 240 << 20),  # six batches
        (64 << 20, 4 << 20, 64 << 20),
        (512 << 20, 4 << 20, 128 << 20),
    ],
)
def test_a_probe_touches_little_memory(given, batch_nbytes, expected):
    opened = object.__new__(OpenedSet)
    opened._arguments = {"read_ahead_bytes": given}
    opened._set = SimpleNamespace(sample_nbytes=batch_nbytes // 32)
    assert opened.read_ahead_bytes(probe.PROBE_BYTES, 32) == expected
