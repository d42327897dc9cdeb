"""Concurrency and lifetime, at odd moments: threads, memory, buffers, forks, exits."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import subprocess
import sys
import threading
import time
import weakref

import h5py
import numpy as np
import pytest
from conftest import open_descriptors, package_threads, resident_nbytes, tf, wait_until

from h5video_data import testing, video_dataset_from_hdf5
from h5video_data.errors import ClosedError, FileChangedError, ReadError
from h5video_data.loader import VideoLoader
from h5video_data.reading import buffers
from h5video_data.reading import chunk_decoder as slabs
from h5video_data.samplers import ShuffleSampler, WeightedSampler

pytestmark = [
    pytest.mark.slow,
    pytest.mark.memory_limit(64),  # the small samples of these tests are read
]

SHAPE = testing.SAMPLE_SHAPE
LAYOUTS = {
    "contiguous": {},
    "samples": {"chunks": (1, *SHAPE), "compression": "gzip"},
    "slabs": {"chunks": (5, *SHAPE), "compression": "gzip"},
    "bands": {"chunks": (4, 1, 2, 8, 5), "compression": "lzf"},
    "h5py": {"dtype": ">i2"},
}


@pytest.fixture(params=LAYOUTS)
def path(request, tmp_path):
    return testing.write_video_file(tmp_path / "a.h5", num_samples=42, **LAYOUTS[request.param])


@pytest.fixture
def slab_path(tmp_path):
    return testing.write_video_file(tmp_path / "a.h5", num_samples=42, **LAYOUTS["slabs"])


def check(indices, x, y):
    np.testing.assert_array_equal(x, testing.sample_values(indices))
    np.testing.assert_array_equal(y, testing.labels(indices, 4))


def epoch(loader):
    """The epoch's number and its samples' numbers; every batch is compared with what it is."""
    number, found = None, []
    for number, indices, (x, y) in loader.batches():  # noqa: B007
        check(indices, x, y)
        found += indices.tolist()
    return number, found


def order(number, seed=0, num_samples=42):
    return ShuffleSampler(num_samples, seed=seed).epoch(number).tolist()


def run_together(*functions):
    """Calls each in a thread of its own; raises what one of them raised."""
    errors = []

    def call(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=call, args=(f,), daemon=True) for f in functions]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert not any(worker.is_alive() for worker in workers), "a thread hangs"
    if errors:
        raise errors[0]


@pytest.fixture
def lent(monkeypatch):
    """Counts the bytes that are lent: now, and at most."""
    count = {"now": 0, "most": 0}
    lend = buffers.BufferPool.lend

    def give_back(size):
        count["now"] -= size

    def counting(self, shape, dtype):
        array = lend(self, shape, dtype)
        count["now"] += self.block_nbytes
        count["most"] = max(count.values())
        weakref.finalize(array.base, give_back, self.block_nbytes)
        return array

    monkeypatch.setattr(buffers.BufferPool, "lend", counting)
    return count


@pytest.fixture
def slow_decoding(monkeypatch):
    decode = slabs.ChunkRowDecoder.decode

    def slow(self, *arguments):
        time.sleep(0.002)
        decode(self, *arguments)

    monkeypatch.setattr(slabs.ChunkRowDecoder, "decode", slow)


# --------------------------------------------------------------------------- kept samples


@pytest.mark.parametrize("num_threads", [1, 4])
@pytest.mark.parametrize("memory", [0, 15_000, 10**6], ids=["none", "short", "ample"])
@pytest.mark.usefixtures("slow_decoding")
def test_an_epoch_is_broken_off_after_any_batch(slab_path, memory, num_threads):
    # Copies wait for decodes that were cancelled, or that still run.
    with VideoLoader(
        slab_path, batch_size=4, seed=0, read_ahead_bytes=memory, num_threads=num_threads
    ) as loader:
        for number in range(11):
            batches = loader.batches()
            for _ in range(number):
                _, indices, arrays = next(batches)
                check(indices, *arrays)
            batches.close()
        assert epoch(loader) == (10, order(10))  # one that was never begun does not count


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("memory", [0, 40_000, 10**6])
def test_columns_of_all_kinds_in_several_files(tmp_path, memory, num_threads):
    def write(number, count, deep, wide, other):
        numbers = np.arange(100 * number, 100 * number + count)
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            for name, options in [("deep", deep), ("wide", wide), ("other", other)]:
                values = testing.sample_values(numbers, SHAPE)
                file.create_dataset(name, data=values, **options)
            file["number"] = numbers
        return os.fspath(tmp_path / f"{number}.h5")

    paths = [
        write(0, 23, {"chunks": (7, 1, 3, 8, 8), "compression": "gzip"}, LAYOUTS["slabs"], {}),
        write(1, 4, LAYOUTS["bands"], LAYOUTS["samples"], {"scaleoffset": 0}),  # h5py
        write(2, 30, {"chunks": (30, 4, 3, 8, 8), "compression": "lzf"}, {}, LAYOUTS["slabs"]),
    ]
    numbers = np.concatenate([np.arange(23), np.arange(100, 104), np.arange(200, 230)])
    weighted = WeightedSampler(np.arange(57) % 5, num_samples=90, seed=3)
    for sampler, batch_size in [(True, 7), (True, 50), (weighted, 8), (weighted, 60)]:
        with VideoLoader(
            paths,
            x={"deep": "deep", "wide": "wide", "other": "other"},
            y="number",
            batch_size=batch_size,
            shuffle=sampler,
            seed=1,
            read_ahead_bytes=memory,
            num_threads=num_threads,
        ) as loader:
            for _ in range(2):
                count = 0
                for x, y in loader:
                    expected = testing.sample_values(y, SHAPE)
                    for values in x.values():
                        np.testing.assert_array_equal(values, expected)
                    assert set(y.tolist()) <= set(numbers.tolist())
                    count += len(y)
                assert count == (57 if sampler is True else 90)


@pytest.mark.usefixtures("slow_decoding")
def test_an_error_in_a_decode_leaves_nothing_behind(tmp_path, slab_path):
    # Copies of kept samples fail as well. Threads and files must not wait for the collector.
    with h5py.File(slab_path, "a") as file:
        file["X"].id.write_direct_chunk((10, 0, 0, 0, 0), b"rubbish", 0)
    before = package_threads()
    gc.collect()
    gc.disable()
    try:
        for seed in range(10):
            loader = VideoLoader(slab_path, batch_size=2, seed=seed, num_threads=4)
            with pytest.raises(ReadError, match=r"sample 1\d: deflate"):
                epoch(loader)
            del loader
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not package_threads() - before)
        left = package_threads() - before, open_descriptors(tmp_path)
    finally:
        gc.enable()
    assert left == (set(), [])


def test_an_error_that_is_held_does_not_hold_kept_samples(slab_path, lent):
    with h5py.File(slab_path, "a") as file:
        file["X"].id.write_direct_chunk((10, 0, 0, 0, 0), b"rubbish", 0)
    held = []
    with VideoLoader(slab_path, batch_size=2, seed=0, num_threads=2) as loader:
        for _ in range(3):
            with pytest.raises(ReadError) as caught:
                epoch(loader)
            held.append(caught.value)  # and with it all frames of its traceback
    wait_until(lambda: lent["now"] <= len(held) * 12 * (768 + 16))


@pytest.mark.parametrize("share", [1.2, 0.25, 0.0])
def test_memory_of_samples_that_share_chunks(tmp_path, lent, share):
    shape, num_samples = (16, 3, 32, 32), 320
    path = testing.write_video_file(
        tmp_path / "a.h5",
        num_samples=num_samples,
        sample_shape=shape,
        chunks=(16, *shape),
        compression="gzip",
        compression_opts=1,
    )
    sample_bytes = int(np.prod(shape))
    budget, batch_bytes = int(share * num_samples * sample_bytes), 16 * sample_bytes
    with VideoLoader(
        path, y=None, batch_size=16, seed=0, read_ahead_bytes=budget, num_threads=3
    ) as loader:
        next(iter(loader))
        begin = resident_nbytes()
        most = 0
        for _ in range(4):
            for x in loader:
                most = max(most, resident_nbytes() - begin)
                assert x.shape == (16, *shape)
        # One batch that the caller holds, one that he has just let go of, one being read.
        assert lent["most"] <= budget + 3 * batch_bytes
        assert most <= budget + (64 << 20)


# --------------------------------------------------------------------------- the next epoch


@pytest.mark.parametrize("seed", range(4))
def test_whatever_one_does_in_between(path, seed, tmp_path):
    # Several iterators, broken off, gone on with, dropped; epochs set, threads released: each
    # iterator gives its epoch's samples.
    rng = np.random.default_rng(seed)
    before = package_threads()
    loader = VideoLoader(
        path, batch_size=5, seed=0, num_threads=int(rng.integers(1, 4)), read_ahead_bytes=20_000
    )
    expected_next, running = 0, []
    for _ in range(250):
        action = rng.integers(0, 20)
        if action < 2 and len(running) < 4:
            batches = loader.batches()
            number, indices, arrays = next(batches)
            assert number == expected_next
            check(indices, *arrays)
            assert indices.tolist() == order(number)[:5]
            running.append([batches, number, 5])
            expected_next += 1
        elif action == 2:
            expected_next = int(rng.integers(0, 5))
            loader.set_epoch(expected_next)
        elif action == 3 and running:
            running.pop(rng.integers(0, len(running)))
        elif action == 4:
            loader._feed.release()
        elif action == 5:
            assert epoch(loader) == (expected_next, order(expected_next))
            expected_next += 1
        elif running:
            place = rng.integers(0, len(running))
            batches, number, done = running[place]
            found = next(batches, None)
            if found is None:
                assert done == 42
                running.pop(place)
                continue
            assert found[0] == number
            assert found[1].tolist() == order(number)[done : done + 5]
            check(found[1], *found[2])
            running[place][2] += 5 if done < 40 else 2
    loader.close()
    del running, loader
    batches = found = arrays = None
    wait_until(lambda: not package_threads() - before)
    assert not open_descriptors(tmp_path)


def test_nested_loops(path):
    with VideoLoader(path, batch_size=20, seed=0) as loader:
        expected = 1
        for number, _, _ in loader.batches():
            assert number == 0
            assert epoch(loader) == (expected, order(expected))
            expected += 1
        assert epoch(loader) == (4, order(4))


def test_an_outer_loop_keeps_what_the_inner_one_read_ahead(slab_path):
    with VideoLoader(slab_path, batch_size=20, seed=0) as loader:
        for _ in loader.batches():
            epoch(loader)
        assert loader._feed._ahead.plan.number == loader._feed._next_epoch


def test_many_threads_set_epochs_and_break_off(path):
    loader = VideoLoader(path, batch_size=5, seed=0, num_threads=2, read_ahead_bytes=20_000)

    def work():
        for number in range(8):
            if number % 3 == 0:
                loader.set_epoch(number)
            if number % 3 == 1:
                next(iter(loader))
            found, indices = epoch(loader)
            assert indices == order(found)

    with loader:
        run_together(*[work] * 5)


@pytest.mark.parametrize("moment", range(14))
def test_closed_after_any_batch(path, moment, tmp_path):
    before = package_threads()
    loader = VideoLoader(path, batch_size=7, seed=0, num_threads=2)
    batches = loader.batches()
    if moment > 6:
        epoch(loader)
        moment -= 7
    for _ in range(moment):
        next(batches)
    loader.close()
    if moment == 6:
        assert next(batches, None) is None  # all was read
    else:
        with pytest.raises(ClosedError):
            list(batches)
    assert not package_threads() - before
    assert not open_descriptors(tmp_path)
    assert loader._feed._ahead is None


@pytest.mark.parametrize("layout", ["contiguous", "slabs"])
def test_released_while_another_thread_ends_its_epochs(tmp_path, layout):
    path = testing.write_video_file(tmp_path / "a.h5", num_samples=42, **LAYOUTS[layout])
    before = package_threads()
    loader = VideoLoader(path, batch_size=42, seed=0, num_threads=2)
    is_done = threading.Event()

    def iterate():
        for _ in range(30):
            epoch(loader)
        is_done.set()

    def release():
        while not is_done.is_set():
            loader._feed.release()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        run_together(iterate, release)
    finally:
        sys.setswitchinterval(interval)
    loader._feed.release()
    wait_until(lambda: not package_threads() - before)


def test_an_error_in_the_last_batch(slab_path, monkeypatch):
    decode, is_bad = slabs.ChunkRowDecoder.decode, [True]

    def fails(self, slab, *arguments):
        if slab == 8 and is_bad[0]:
            raise ReadError("the last slab")
        decode(self, slab, *arguments)

    monkeypatch.setattr(slabs.ChunkRowDecoder, "decode", fails)
    with VideoLoader(slab_path, batch_size=10, shuffle=False, num_threads=2) as loader:
        for _ in range(2):
            batches = loader.batches()
            for _ in range(4):
                check(*(lambda _, i, a: (i, *a))(*next(batches)))
            with pytest.raises(ReadError, match="the last slab"):
                next(batches)
            assert loader._feed._ahead is None
        is_bad[0] = False
        assert epoch(loader) == (2, list(range(42)))


@pytest.mark.parametrize("change", ["written", "replaced"])
def test_what_was_read_ahead_of_a_change_is_not_given(path, tmp_path, change):
    with VideoLoader(path, batch_size=10, seed=0) as loader:
        epoch(loader)
        for batch in loader._feed._ahead._bundles:
            for task in batch.tasks:
                task.result()  # all of it was read, and right
        if change == "written":
            with open(path, "r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"\x07")
            os.utime(path, ns=(1, 1))  # however coarse the file system's clock is
        else:
            other = testing.write_video_file(tmp_path / "new.h5", num_samples=42, first=1)
            os.replace(other, path)
        for _ in range(2):
            with pytest.raises(FileChangedError):
                epoch(loader)


def test_training_and_validation_of_one_file(path):
    options = {"validation_split": 0.3, "seed": 5, "batch_size": 4, "num_threads": 2}
    sides = [
        VideoLoader(path, subset=subset, read_ahead_bytes=10_000, **options)
        for subset in ("training", "validation")
    ]

    def iterate(loader):
        for _ in range(4):
            assert sorted(epoch(loader)[1]) == loader.sample_indices.tolist()

    run_together(*[lambda loader=loader: iterate(loader) for loader in sides * 2])
    for _ in range(3):  # as fit does it
        iterate(sides[0])
        iterate(sides[1])
    for loader in sides:
        loader.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forks_between_epochs(path):
    # The next epoch is being read at that moment.
    loader = VideoLoader(path, batch_size=4, seed=0, num_threads=2)
    for number in range(0, 9, 3):
        assert epoch(loader) == (number, order(number))
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                right = [epoch(loader) == (number + i, order(number + i)) for i in (1, 2)]
                loader.close()
                status = 0 if all(right) else 2
            os._exit(status)
        assert epoch(loader) == (number + 1, order(number + 1))
        assert epoch(loader) == (number + 2, order(number + 2))
        end = time.monotonic() + 60
        while (done := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < end:
            time.sleep(0.01)
        if done[0] == 0:
            os.kill(child, 9)
            os.waitpid(child, 0)
        assert done == (child, 0), "the child hangs or fails"
    loader.close()


# --------------------------------------------------------------------------- in TensorFlow


def numbers_of(values):
    """The samples' numbers, from their first values; all of each sample must fit."""
    values = np.asarray(values)
    numbers = values[:, 0, 0, 0, 0].astype(np.int64) * 28 % 127  # 59 * 28 = 1 (mod 127)
    np.testing.assert_array_equal(values, testing.sample_values(numbers))
    return numbers.tolist()


def all_numbers(batches):
    return [number for values in batches for number in numbers_of(values)]


HOLD = [
    lambda x: x,
    lambda x: x[1],
    lambda x: x[:, ::2, 1:],
    lambda x: x.numpy(),
    lambda x: x.numpy()[1:, ..., ::3],
    lambda x: np.asarray(x).reshape(-1)[7:99],
    lambda x: memoryview(x.numpy()),
    lambda x: tf.reshape(x, [-1]),
    lambda x: tf.identity(x),
    lambda x: tf.unstack(x)[0],
    lambda x: np.from_dlpack(x.numpy()),
    lambda x: np.lib.stride_tricks.sliding_window_view(x.numpy().reshape(-1), 50),
    lambda x: pickle.loads(pickle.dumps(x.numpy())),
    lambda x: pickle.PickleBuffer(x.numpy()),
    lambda x: tf.data.Dataset.from_tensors(x),
    lambda x: tf.RaggedTensor.from_tensor(tf.reshape(x, [x.shape[0], -1])),
    lambda x: iter(x.numpy()),
]


def content(held):
    if isinstance(held, tf.data.Dataset):
        held = next(iter(held))
    if isinstance(held, tf.RaggedTensor):
        held = held.flat_values
    if type(held).__name__ == "iterator":
        kept = list(held.__reduce__()[1])
        held = kept[0]
    return np.asarray(held).tobytes()


def test_whatever_is_held_never_changes(path):
    dataset = video_dataset_from_hdf5(
        path, batch_size=6, seed=0, read_ahead_bytes=20_000, num_threads=2
    )
    held = []
    for number in range(4):
        for step, (x, _) in enumerate(dataset):
            kept = HOLD[(number * 7 + step) % len(HOLD)](x)
            held.append((kept, content(kept)))
            del x, kept
    for _ in range(3):
        for _ in dataset:
            pass
    for kept, before in held:
        assert content(kept) == before


def test_stages_behind_that_keep_tensors(path):
    dataset = video_dataset_from_hdf5(
        path, batch_size=6, seed=0, read_ahead_bytes=20_000, num_threads=2
    ).map(lambda x, _: x)
    cached = dataset.cache()
    again = dataset.unbatch().batch(10).prefetch(3)
    shuffled = dataset.unbatch().shuffle(30).batch(4)
    windows = dataset.window(3, drop_remainder=False).flat_map(lambda part: part)
    first = [numbers_of(x) for x in cached]
    whole = list(dataset)
    for stages in (again, shuffled, windows, dataset.repeat(2), dataset.take(3)):
        assert len(all_numbers(stages)) in (42, 84, 18)
    paired = tf.data.Dataset.zip(dataset, dataset, cached)
    for x, other, kept in paired:
        numbers_of(x)
        numbers_of(other)
        numbers_of(kept)
    assert [numbers_of(x) for x in cached] == first
    assert sorted(all_numbers(whole)) == list(range(42))


def test_hundreds_of_iterators_that_are_broken_off(tmp_path):
    path = testing.write_video_file(
        tmp_path / "a.h5",
        num_samples=60,
        sample_shape=(4, 3, 40, 40),
        chunks=(5, 4, 3, 40, 40),
        compression="lzf",
    )
    dataset = video_dataset_from_hdf5(path, batch_size=6, seed=0, num_threads=2)

    def break_off(times):
        for number in range(times):
            batches = iter(dataset)
            for _ in range(number % 3):
                next(batches)

    break_off(30)
    gc.collect()
    memory, files, running = resident_nbytes(), open_descriptors(), package_threads()
    break_off(120)
    gc.collect()
    wait_until(lambda: len(package_threads()) <= len(running))
    assert len(open_descriptors()) <= len(files) + 1
    # With what is read ahead, 50 MB were read at least.
    assert resident_nbytes() - memory < 20 << 20


def is_collected(*references):
    gc.collect()
    # TensorFlow gives arrays back when it has the interpreter's lock: at its next tensor.
    tf.zeros(())
    return not any(reference() for reference in references)


def test_nothing_of_a_loader_stays_behind_its_datasets(path):
    # TensorFlow keeps the generator until the process ends: of hundreds of loaders, as a search
    # for hyperparameters makes them, their indices and chunk tables stayed in memory.
    dataset = video_dataset_from_hdf5(path, batch_size=5, seed=0)
    for _ in dataset.take(3):
        pass
    left = [weakref.ref(item) for item in (dataset.loader, dataset.loader._set)]
    iterator = iter(dataset)
    first = next(iterator)
    del dataset
    gc.collect()
    assert left[0]() is not None  # its iterator goes on
    assert len(list(iterator)) == 8
    del iterator, first
    wait_until(lambda: is_collected(*left))


def test_take_and_repeat_follow_on(path):
    dataset = video_dataset_from_hdf5(path, batch_size=10, seed=0, num_threads=2)
    for number in range(4):
        found = all_numbers(x for x, _ in dataset.take(number + 1))
        assert found == order(number)[: 10 * (number + 1)]
    found = all_numbers(x for x, _ in dataset.repeat(3))
    assert found == order(4) + order(5) + order(6)


# --------------------------------------------------------------------------- exits


EXIT = """
import os, signal, sys, threading, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from h5video_data.planning import access
from h5video_data.reading import threads as tasks
access.MEMORY_ROW_BYTES = 64
tasks.EXIT_SECONDS = 1000  # a thread that does not end is a hang
way, end, path = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have switched off

def interrupt():
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)

stopped = []

def stop():
    if stopped:
        return  # a second interrupt would come at the end of the process
    stopped.append(True)
    print("stop", flush=True)
    if end == "exit":
        raise SystemExit(7)
    if end == "interrupt":
        threading.Thread(target=interrupt, daemon=True).start()

if way == "loader":
    from h5video_data import VideoLoader
    with_steps = VideoLoader(path, batch_size=2, num_threads=2)
else:
    import tensorflow as tf
    from h5video_data import video_dataset_from_hdf5
    with_steps = video_dataset_from_hdf5(path, batch_size=2, num_threads=2)
if way == "fit":
    import keras
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 5:
                stop()
    layers = [keras.layers.Flatten(), keras.layers.Dense(4, activation="softmax")]
    model = keras.Sequential(layers)
    model.compile("sgd", "categorical_crossentropy")
    mapped = with_steps.map(lambda x, y: (tf.cast(x, tf.float32), y))
    model.fit(mapped, epochs=10**6, verbose=0, shuffle=False, callbacks=[Stop()])
else:
    for epoch in range(10**6):
        for step, batch in enumerate(with_steps):
            if (epoch, step) == (2, 5):
                stop()
"""


@pytest.mark.parametrize(
    ("way", "end"),
    [("loader", "exit"), ("loader", "interrupt"), ("fit", "interrupt")],
)
def test_the_process_ends_in_the_middle_of_an_epoch(slab_path, way, end):
    process = subprocess.Popen(
        [sys.executable, "-c", EXIT, way, end, slab_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "stop\n"
        _, noise = process.communicate(timeout=250)
    finally:
        process.kill()
    # Python gives 130 for a KeyboardInterrupt under some shells, -SIGINT by itself.
    assert process.returncode in ((7,) if end == "exit" else (-2, 130))
    for word in ("Exception ignored", "FATAL", "terminate called", "Exception in thread"):
        assert word not in noise
    assert ("KeyboardInterrupt" in noise) == (end == "interrupt")
