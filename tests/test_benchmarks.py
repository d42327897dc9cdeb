"""The measuring programs, run tiny, so that they cannot rot; no figure is judged here."""

import re

import h5py
import imagecodecs
import numpy as np
import pytest

from benchmarks import facts, feed, limits, measure, scaling, utilisation, video_set
from benchmarks.checks import WrongSamplesError, compare, digests, stored_digests
from benchmarks.video_set import LAYOUTS, make_set, sample

SMALL = (2, 3, 16, 16)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_set_is_the_same_in_every_layout(tmp_path, layout, monkeypatch):
    monkeypatch.setattr(video_set, "BLOCK_BYTES", 10 * 2 * 3 * 16 * 16)  # several blocks
    expected = np.stack([sample(i, SMALL) for i in range(21)])
    with h5py.File(make_set(tmp_path, layout, 21, SMALL)) as file:
        assert file.attrs["sample_count"] == 21
        X = file["X"]
        if X.dtype == np.float32:
            expected = expected / np.float32(255)
        np.testing.assert_array_equal(X, expected)
        assert (X.chunks is None) == (layout == "contiguous")
        assert bool(X.id.get_create_plist().get_nfilters()) == LAYOUTS[layout].is_compressed
        assert (X.chunks is None or X.chunks[0] == 1) == (layout not in ("many", "auto"))


def test_samples_differ():
    assert len({sample(i).tobytes() for i in range(20)}) == 20
    assert sample(3).shape == video_set.SAMPLE_SHAPE


def test_a_set_is_written_once(tmp_path):
    path = make_set(tmp_path, "gzip", 2, SMALL)
    with h5py.File(path, "a") as file:
        file.attrs["mark"] = 1
    assert make_set(tmp_path, "gzip", 2, SMALL) == path
    with h5py.File(path) as file:
        assert "mark" in file.attrs
    assert make_set(tmp_path, "gzip", 2, (1, 1, 8, 8)) != path


def test_a_missing_plugin_is_said(monkeypatch):
    monkeypatch.setattr(video_set.importlib.util, "find_spec", lambda _: None)
    assert "pip install '.[filters]'" in LAYOUTS["zstd"].why_not()
    assert LAYOUTS["gzip"].why_not() is None


@pytest.mark.tf
@pytest.mark.parametrize("layout", ["contiguous", "gzip"])
def test_measures_and_judges(tmp_path, capsys, layout):
    options = ["--samples", "64", "--sample-shape", *map(str, SMALL), "--rounds", "1"]
    options += ["--folder", str(tmp_path), "--layouts", layout]
    assert feed.main(options) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(rf"{layout} +(\d+ ± +\d+ +){{3}}\d+\.\d\d +\d+\.\d", row)
    assert feed.main([*options, "--at-least", "1000"]) == 1


STORED = [11, 12, 13, 14, 15]


@pytest.mark.parametrize(
    ("delivered", "is_whole", "text"),
    [
        ([15, 11, 13, 12], True, "1 did not come"),
        ([15, 11, 13, 12, 12], True, "1 came more than once, 1 did not come"),
        ([15, 11, 13, 12, 12], False, "1 came more than once"),
        ([15, 11, 13, 12, 99], True, "1 are not in the file, or changed, 1 did not come"),
        ([11, 12, 13, 14, 15], True, "in the order of the file"),
        ([11, 12, 13, 14], False, "in the order of the file"),
    ],
    ids=["missing", "repeated", "repeated in a part", "changed", "sorted", "sorted in a part"],
)
def test_wrong_samples_are_noticed(delivered, is_whole, text):
    with pytest.raises(WrongSamplesError, match=text):
        compare(delivered, STORED, is_whole_epoch=is_whole)


def test_right_samples_pass():
    compare([13, 15, 11, 14, 12], STORED, is_whole_epoch=True)
    compare([13, 15], STORED, is_whole_epoch=False)


def test_every_byte_and_the_label_count(tmp_path):
    path = make_set(tmp_path, "contiguous", 5, SMALL)
    with h5py.File(path) as file:
        clips, labels = file["X"][:], file["Y"][:]
    stored = stored_digests(path, 5)
    assert digests(clips, labels) == stored
    assert len(set(stored)) == 5
    clips[2, 1, 2, 15, 15] ^= 1
    labels[4] = labels[3]
    changed = np.array(digests(clips, labels)) != stored
    assert changed.tolist() == [False, False, True, False, True]
    # The order of bytes in the file is not what counts.
    assert digests(clips.astype(">u2"), labels) == digests(clips.astype("<u2"), labels)
    with pytest.raises(WrongSamplesError, match="5 samples has 4 labels"):
        digests(clips, labels[:4])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cold", [False, True])
def test_every_layout_has_a_limit(tmp_path, layout, cold):
    path = make_set(tmp_path, layout, 20, SMALL)
    order = np.random.default_rng(0).permutation(20)
    limit = limits.limit_of(path, order, batch_size=4, num_threads=2, num_buffers=2, cold=cold)
    expected = "direct reads" if cold else "reads" if not facts.filter_names(path) else "decoding"
    assert expected in limit.name
    assert limit.measure() > 0


def test_a_filter_that_only_hdf5_undoes_has_no_limit(tmp_path):
    with h5py.File(tmp_path / "scaled.h5", "w") as file:
        file.create_dataset("X", data=np.zeros((4, 8), np.int32), chunks=(1, 8), scaleoffset=0)
    order = np.arange(4)
    path = str(tmp_path / "scaled.h5")
    assert limits.limit_of(path, order, batch_size=2, num_threads=1, num_buffers=2) is None


def test_an_error_in_a_measuring_thread_comes_out(tmp_path):
    path = make_set(tmp_path, "gzip", 4, SMALL)
    with h5py.File(path) as file:
        begin = file["X"].id.get_chunk_info(2).byte_offset
    with open(path, "r+b") as raw:
        raw.seek(begin)
        raw.write(b"\xff" * 64)
    with pytest.raises(imagecodecs.DeflateError):
        limits.decoding(path, num_threads=2, num_samples_in_memory=4)


def test_memory_copies_are_measured():
    assert limits.memory_copy(num_threads=2, block_bytes=1 << 16, rounds=2) > 0


def test_the_cache_is_dropped_and_warmed(tmp_path):
    path = make_set(tmp_path, "contiguous", 64)
    measure.drop_cache([path])
    share = measure.cached_share(path)
    if share is None or share == 1:
        pytest.skip("this file system does not tell, or is in memory")
    assert share < 0.5
    measure.warm_cache(path)
    assert measure.cached_share(path) == 1


def batches(count, size=4):
    clips = np.arange(count * size, dtype=np.int32).reshape(count, size, 1)
    return [(x, x[:, 0]) for x in clips]


@pytest.fixture
def clock(monkeypatch):
    """A clock on which nothing but sleep takes time."""

    class Clock:
        seconds = 0.0

        def perf_counter(self):
            return self.seconds

        def sleep(self, seconds):
            self.seconds += seconds

    made = Clock()
    monkeypatch.setattr(measure, "time", made)
    return made


class Slow(measure.Feed):
    """Takes 0.25 s for a batch, and prepares none while the one before is used."""

    def __init__(self, clock, count):
        super().__init__(batches(count))
        self.clock, self.count = clock, count

    def epoch(self, on_batch):
        for x, y in batches(self.count):
            self.clock.sleep(0.25)
            on_batch(x, y)


def test_a_turn_lasts_as_long_as_it_should(clock):
    source = Slow(clock, 6)
    once = source.take_turn(measure.Turn())
    assert (once.num_batches, once.num_samples, once.is_whole) == (6, 24, True)
    assert once.utilisation is None
    assert (once.seconds, once.first_batch_seconds) == (1.5, 0.25)
    more = source.take_turn(measure.Turn(min_seconds=3.25))
    assert (more.num_batches, more.seconds) == (18, 4.5)
    less = source.take_turn(measure.Turn(max_seconds=0.0))
    assert (less.num_batches, less.is_whole) == (measure.MIN_BATCHES, False)


def test_utilisation_is_compute_over_total(clock):
    busy = measure.Turn(step_seconds=0.75, max_seconds=60)
    assert Slow(clock, 11).take_turn(busy).utilisation == 0.75
    assert measure.Feed(batches(11)).take_turn(busy).utilisation == 1
    assert measure.Feed(batches(9)).take_turn(busy).utilisation is None


def test_a_buffer_that_is_written_to_again_is_noticed():
    buffer = np.zeros((2, 3), np.uint8)

    def reused():
        for value in range(4):
            buffer[:] = value
            yield buffer, np.array([value, value])

    delivered = measure.Feed(reused()).take_turn(measure.Turn(with_digests=True)).digests
    stored = [d for v in range(4) for d in digests(np.full((2, 3), v, np.uint8), [[v], [v]])]
    with pytest.raises(WrongSamplesError, match="not in the file"):
        compare(delivered, stored, is_whole_epoch=True)


def test_an_epoch_without_batches_is_an_error():
    with pytest.raises(RuntimeError, match="without a batch"):
        measure.Feed([]).take_turn(measure.Turn())


def test_steps_of_mlperf():
    assert utilisation.PRESETS["unet3d-h100"].bytes_per_second == pytest.approx(3.18e9, rel=0.002)
    assert utilisation.step_seconds("unet3d-h100", 3_180_000) == pytest.approx(0.001, rel=0.002)
    assert utilisation.step_seconds("0.25", 1) == 0.25
    for wrong in ("0", "-1", "nan", "fast"):
        with pytest.raises(ValueError, match="a number of seconds or one of unet3d"):
            utilisation.step_seconds(wrong, 1)


@pytest.mark.tf
def test_scaling_gives_a_row_for_each_point(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scaling, "make_set", lambda *rest: make_set(*rest, SMALL))
    monkeypatch.setattr(scaling, "FRAME_SHAPE", (1, 8, 8))
    sizes = scaling.Sizes(
        num_samples=16,
        batch_sizes=(1, 4, 32),
        sample_frames=(1, 4),
        total_bytes=4096,
        batch_bytes=256,
        indices=(100, 1000),
        max_chunks=100,
        rounds=1,
        seconds=0.0,
    )
    out = tmp_path / "out.json"
    options = ["--layouts", "gzip", "--json", str(out), "--folder", str(tmp_path)]
    assert scaling.main(options, sizes) == 0
    rows = scaling.json.loads(out.read_text())["rows"]
    found = {(row["axis"], row["value"]) for row in rows}
    assert {("batch", 1), ("batch", 4), ("threads", 1), ("work", 2), ("work", 16)} <= found
    assert {("sample", 64), ("sample", 256), ("samples", 100), ("samples", 1000)} <= found
    assert ("batch", 32) not in found
    assert all(row["of_limit"][0] > 0 for row in rows if row["axis"] == "threads")
    assert not any("of_limit" in row for row in rows if row["axis"] != "threads")
    assert len(capsys.readouterr().out.splitlines()) == len(rows)
