"""Batches of the loader's own buffers: bounded, and never changed while held."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest

from h5video_data import testing
from h5video_data.loader import VideoLoader

pytestmark = pytest.mark.memory_limit(64)  # the small samples of these tests are read


ROW_BYTES = 768


@pytest.fixture
def path(tmp_path):
    return testing.write_video_file(tmp_path / "set.h5", num_samples=60)


def test_memory_for_buffers_is_bounded(path, monkeypatch):
    made = []
    monkeypatch.setattr(
        "h5video_data.reading.buffers.aligned_empty",
        lambda size: made.append(size) or np.empty(size + 64, np.uint8)[:size],
    )
    loader = VideoLoader(path, y=None, batch_size=5, read_ahead_bytes=6 * 5 * ROW_BYTES)
    for _ in range(5):
        for batch in loader:
            assert batch.base is not None
    assert sum(made) <= 9 * 5 * ROW_BYTES  # and what the caller holds


def test_held_batches_never_change(path):
    loader = VideoLoader(path, batch_size=4, num_threads=3, read_ahead_bytes=8 * 4 * ROW_BYTES)
    held = []
    for number, (x, y) in enumerate(itertools.chain(*[loader] * 8)):
        # Some are held whole, some by a view, some not at all.
        kept = (x, x[1:, ::2], None, memoryview(x), y.T, x.reshape(-1)[5:])[number % 6]
        if kept is not None:
            held.append((kept, hashlib.sha256(np.asarray(kept).tobytes()).digest()))
    assert len(held) == 100
    for kept, digest in held:
        assert hashlib.sha256(np.asarray(kept).tobytes()).digest() == digest


def test_batches_may_be_written_to(path):
    loader = VideoLoader(path, batch_size=4, shuffle=False)
    for _ in range(3):
        for number, (x, _) in enumerate(loader):
            first = np.arange(4) + number * 4
            np.testing.assert_array_equal(x, testing.sample_values(first))
            x[...] = 0
