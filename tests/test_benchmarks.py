"""The measuring program, run tiny, so that it cannot rot; no figure is judged here."""

import re

import h5py
import numpy as np
import pytest

from benchmarks import feed, limits
from benchmarks.video_set import LAYOUTS, SAMPLE_SHAPE, make_set, sample


def test_the_set_is_the_same_in_every_layout(tmp_path):
    for layout in LAYOUTS:
        with h5py.File(make_set(tmp_path, layout, 3)) as file:
            assert file.attrs["sample_count"] == 3
            np.testing.assert_array_equal(file["X"], [sample(i) for i in range(3)])
            assert (file["X"].chunks is None) == (layout == "contiguous")
    assert len({sample(i).tobytes() for i in range(20)}) == 20


def test_a_set_is_written_once(tmp_path):
    path = make_set(tmp_path, "gzip", 2)
    with h5py.File(path, "a") as file:
        file.attrs["mark"] = 1
    assert make_set(tmp_path, "gzip", 2) == path
    with h5py.File(path) as file:
        assert "mark" in file.attrs


@pytest.mark.parametrize("layout", ["contiguous", "gzip"])
def test_measures_and_judges(tmp_path, capsys, layout):
    options = ["--samples", "64", "--rounds", "1", "--folder", str(tmp_path), "--layouts", layout]
    assert feed.main(options) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(rf"{layout} +(\d+ ± +\d+ +){{3}}\d+\.\d\d +\d+\.\d", row)
    assert feed.main([*options, "--at-least", "1000"]) == 1


def test_wrong_samples_are_noticed(tmp_path):
    path = make_set(tmp_path, "contiguous", 4)
    with h5py.File(path) as file:
        clips = file["X"][:]

        class Given:
            def __init__(self, values):
                self.values = values

            def numpy(self):
                return self.values

        def delivered(*batches):
            return [(Given(batch), None) for batch in batches]

        feed._verify(delivered(clips[2:], clips[:2]), file, 4)
        changed = clips.copy()
        changed[1, 7, 2] += 1
        for wrong in (delivered(clips[:3]), delivered(clips[[0, 1, 1, 2]]), delivered(changed)):
            with pytest.raises(SystemExit, match="wrong samples"):
                feed._verify(wrong, file, 4)


def test_limits_are_positive(tmp_path):
    order = np.random.default_rng(0).permutation(8)
    for layout in ("contiguous", "chunked"):
        path = make_set(tmp_path, layout, 8)
        assert limits.positioned_reads(path, order, batch_size=4, num_threads=2, num_buffers=2) > 0
    path = make_set(tmp_path, "lzf", 8)
    assert limits.decoding(path, num_threads=2, num_samples_in_memory=4) > 0
    assert np.prod(SAMPLE_SHAPE) == limits.SAMPLE_BYTES
