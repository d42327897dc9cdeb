"""Advice on a feed, from the measurements of an epoch."""

import functools
import os
from dataclasses import replace

import pytest

import h5video_data as h5v
from h5video_data.callbacks.advice import Measurements, advise
from h5video_data.reading.prefetcher import LoaderStats
from h5video_data.testing import write_video_file

STATS = LoaderStats(
    read_bytes=19_000_000_000,
    num_reads=30_000,
    read_seconds=19.0,
    delivered_bytes=20_000_000_000,
)
MEASURED = Measurements(
    num_steps=100,
    num_samples=3200,
    seconds=10.0,
    wait=0.0,
    read=0.0,
    decode=0.0,
    map=0.0,
    hand_over=0.0,
    first_wait=0.0,
    is_first=False,
    stats=STATS,
)


def augment(x, y):
    return x, y


@pytest.fixture
def make(tmp_path):
    def make_loader(scaleoffset=None, **options):
        path = write_video_file(tmp_path / "a.h5", num_samples=8, scaleoffset=scaleoffset)
        return h5v.VideoLoader(path, **{"batch_size": 2, "num_threads": 2, **options})

    return make_loader


@pytest.fixture(autouse=True)
def _two_processors(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {pid, pid + 1})


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        pytest.param(
            {"wait": 0.02, "read": 0.02},
            "the feed keeps up: waited 2.0% of 10 s, at 10 steps/s; the model is the limit",
            id="no wait",
        ),
        pytest.param(
            {"wait": 0.05, "read": 0.04, "hand_over": 0.01},
            "the disk is the limit: waited 5.0% of 10 s, 1.9 GB/s read of 2 GB/s needed. Use a "
            "faster disk, or read fewer bytes (`clip`, a smaller dtype, compression)",
            id="disk",
        ),
        pytest.param(
            {"wait": 0.96, "read": 0.96, "stats": replace(STATS, read_bytes=19_000_000)},
            "the disk is the limit: waited 96.0% of 10 s, 1.9 MB/s read. Use a faster disk, or "
            "read fewer bytes (`clip`, a smaller dtype, compression)",
            id="hardly any step",
        ),
        pytest.param(
            {"wait": 0.5, "read": 0.5, "stats": replace(STATS, read_seconds=9.5)},
            "copying from the page cache is the limit: waited 50.0% of 10 s, 1.9 GB/s read of "
            "3.8 GB/s needed by 2 threads. Read fewer bytes (`clip`, a smaller dtype, compression)",
            id="page cache",
        ),
        pytest.param(
            {"wait": 0.5, "read": 0.5, "stats": replace(STATS, num_reads=20_000_000)},
            "reading in small pieces is the limit: waited 50.0% of 10 s, 1.9 GB/s read of 3.8 GB/s "
            "needed in pieces of 950 bytes. Store whole samples in a chunk: `h5video-data inspect` "
            "says how",
            id="pieces",
        ),
        pytest.param(
            {"wait": 0.5, "decode": 0.3, "read": 0.2},
            "decoding is the limit: waited 50.0% of 10 s, 2 threads decoded 2 GB/s. Use more "
            "processors, or a lighter codec (`h5video-data repack`)",
            id="decoding",
        ),
        pytest.param(
            {"wait": 0.5, "map": 0.4, "hand_over": 0.1},
            "a map stage (<lambda>, augment) is the limit: waited 50.0% of 10 s, 2 calls at once. "
            "Vectorise it, or move it into the model, to the accelerator",
            id="map",
        ),
        pytest.param(
            {"wait": 0.5, "map": 0.1, "hand_over": 0.4},
            "the hand-over to TensorFlow is the limit: waited 50.0% of 10 s, 40 ms of each step. "
            "Use larger batches, or run less Python code at the same time",
            id="hand-over",
        ),
        pytest.param(
            {"wait": 0.5, "read": 0.15, "hand_over": 0.35, "first_wait": 0.3},
            "the start of the epoch is the limit: waited 50.0% of 10 s, 30.0% for the first batch. "
            "Train on dataset.repeat() with steps_per_epoch=4: the feed then continues between "
            "epochs (a FeedCheckpoint then needs repeated=True)",
            id="start",
        ),
        pytest.param(
            {"wait": 0.5, "read": 0.5, "first_wait": 0.4, "is_first": True},
            "the start of the training is the limit: waited 50.0% of 10 s, 40.0% for the first "
            "batch. See the next epoch",
            id="the first start",
        ),
        pytest.param(
            {"num_samples": 0},
            "the dataset was not read: the batches came from elsewhere, such as a cache",
            id="a cache",
        ),
    ],
)
def test_advice(make, measured, expected):
    found = advise(replace(MEASURED, **measured), make(map_fn=[lambda x, y: (x, y), augment]))
    assert found == expected


def test_more_threads_come_first(make):
    loader = make(num_threads=1, map_fn=functools.partial(augment))
    measured = replace(MEASURED, wait=0.5, map=0.5)
    assert "the map stage augment is the limit" in advise(measured, loader)
    assert "1 call at once" in advise(measured, loader)
    assert "Set num_threads=2 (now 1), or move it" in advise(measured, loader)
    loader = make(num_threads=2, num_parallel_calls=1, map_fn=augment)
    assert "1 call at once. Set num_parallel_calls=2 (now 1), or" in advise(measured, loader)
    loader = make(num_threads=1, num_parallel_calls=2, map_fn=augment)
    assert "2 calls at once. Vectorise it, or" in advise(measured, loader)
    loader = make(num_threads=1)
    measured = replace(MEASURED, wait=0.5, decode=0.5)
    assert "Set num_threads=2 (now 1), or a lighter codec" in advise(measured, loader)
    measured = replace(MEASURED, wait=0.5, read=0.5, stats=replace(STATS, read_seconds=1))
    assert advise(measured, loader).endswith("by 1 thread. Set num_threads=2 (now 1)")


def test_what_hdf5_has_to_read(make):
    found = advise(replace(MEASURED, wait=0.5, read=0.5), make(scaleoffset=0))
    assert found == (
        "reading by HDF5, one read at a time, is the limit: waited 50.0% of 10 s, 1.9 GB/s read of "
        "3.8 GB/s needed. Dataset '/X': its filter 'scaleoffset' is decoded by HDF5: `h5video-data "
        "inspect` says how to store it"
    )


@pytest.mark.tf
def test_transforms_have_names(make):
    loader = make(map_fn=h5v.transforms.random_flip())
    measured = replace(MEASURED, wait=0.5, map=0.5)
    assert "the map stage random_flip is the limit" in advise(measured, loader)
