"""Training that is killed and started again: the same samples, in the same order, as if never."""

import json
import os
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import h5video_data as h5v
from h5video_data.errors import ArgumentError, StateError
from h5video_data.testing import write_video_file
from h5video_data.tfdata import pipeline
from h5video_data.tfdata.stream import bundled_elements

SHAPE = (2, 1, 4, 4)
NUM_SAMPLES = 46
NUM_STEPS = 6  # of an epoch, batch 8, the last batch not whole
EPOCHS = 4

# Starts itself anew, in child processes that are killed at random steps, until one gets through.
# Each child does what a script of a user does, and writes down which samples each step was given.
SCRIPT = """
import json, os, random, signal, sys
path, folder, seed, save_freq, feed_freq, batch_sizes, epochs = sys.argv[1:]
batch_sizes, epochs = json.loads(batch_sizes), int(epochs)
save_freq, feed_freq = json.loads(save_freq), json.loads(feed_freq)
import numpy as np
import tensorflow as tf
import h5video_data as h5v

keras = tf.keras
rng = random.Random(int(seed))


class Model(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, kernel_initializer="ones")

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        (clips, numbers), target = data
        def note(numbers, iterations):
            with open(os.path.join(folder, "log"), "a") as file:
                file.write(json.dumps([int(iterations), numbers.tolist()]) + "\\n")
            return np.int64(0)
        noted = tf.numpy_function(note, [numbers, tf.convert_to_tensor(self.optimizer.iterations)],
                                  tf.int64)
        with tf.control_dependencies([noted]), tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(clips, training=True) - target) ** 2)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        return {"loss": loss}


class Killer(keras.callbacks.Callback):
    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_begin(self, batch, logs=None):
        self.steps -= 1
        if self.steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def as_floats(x, y):
    clips = tf.reshape(tf.cast(x["clips"], tf.float32), [-1, 32]) / 128
    clips.set_shape([None, 32])
    return (clips, x["numbers"]), tf.reduce_mean(clips, axis=1, keepdims=True) ** 2


def train(batch_size, kill_at):
    train = h5v.video_dataset_from_hdf5(
        path, x={"clips": "X", "numbers": "numbers"}, batch_size=batch_size, seed=3,
        map_fn=as_floats)
    model = Model()
    model.compile(optimizer=keras.optimizers.Adam(0.01), run_eagerly=False)
    model(tf.zeros((1, 32)))
    model.optimizer.build(model.trainable_variables)
    next(iter(train))  # a look at the data, which must not shift anything
    callbacks = [
        keras.callbacks.BackupAndRestore(os.path.join(folder, "backup"), save_freq=save_freq),
        h5v.callbacks.FeedCheckpoint(train, os.path.join(folder, "feed.json"),
                                     save_freq=feed_freq),
        Killer(kill_at),
    ]
    model.fit(train, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
    np.save(os.path.join(folder, "weights.npy"), np.concatenate(
        [np.ravel(value) for value in model.get_weights()]))
    assert not os.path.exists(os.path.join(folder, "feed.json"))


kills = 0
while True:
    kill_at = rng.randint(1, 9) if kills < 12 else 0
    child = os.fork()
    if not child:
        try:
            train(batch_sizes[kills % len(batch_sizes)], kill_at)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status):
        print("kills:", kills)
        sys.exit(os.WEXITSTATUS(status))
    kills += 1
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = write_video_file(
        tmp_path_factory.mktemp("data") / "a.h5", num_samples=NUM_SAMPLES, sample_shape=SHAPE
    )
    import h5py

    with h5py.File(path, "r+") as file:
        file["numbers"] = np.arange(NUM_SAMPLES)
    return path


def run(path, folder, *, seed, save_freq, feed_freq="epoch", batch_sizes=(8,), legacy=False):
    """Trains with kills; gives the samples of each step, of those whose weights counted."""
    folder.mkdir()
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if legacy:
        environment["TF_USE_LEGACY_KERAS"] = "1"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            SCRIPT,
            path,
            str(folder),
            str(seed),
            json.dumps(save_freq),
            json.dumps(feed_freq),
            json.dumps(batch_sizes),
            str(EPOCHS),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    steps = {}
    for line in (folder / "log").read_text().splitlines():
        iterations, numbers = json.loads(line)
        steps = {key: value for key, value in steps.items() if key < iterations}
        steps[iterations] = numbers
    assert list(steps) == list(range(len(steps)))
    kills = int(done.stdout.split("kills:")[1])
    return list(steps.values()), np.load(folder / "weights.npy"), kills


@pytest.fixture(scope="module")
def expected(path):
    """The samples of each step of a run that is never killed."""
    loader = h5v.VideoLoader(path, batch_size=8, seed=3)
    return [indices.tolist() for _ in range(EPOCHS) for _, indices, _ in loader.batches()]


@pytest.mark.parametrize("legacy", [False, True], ids=["keras 3", "tf_keras"])
def test_killed_at_random_steps(tmp_path, path, expected, legacy):
    finals = []
    for number, save_freq in enumerate((2, "epoch")):
        steps, weights, kills = run(
            path, tmp_path / str(number), seed=number, save_freq=save_freq, legacy=legacy
        )
        assert steps == expected
        assert kills >= 2
        finals.append(weights)
    np.testing.assert_array_equal(finals[0], finals[1])


def test_killed_and_started_with_other_batch_sizes(tmp_path, path):
    steps, _, kills = run(path, tmp_path / "a", seed=7, save_freq=2, batch_sizes=(8, 4, 12))
    assert kills >= 2
    # Each epoch has every sample once, in the order of a run that is never killed.
    loader = h5v.VideoLoader(path, batch_size=46, seed=3)
    order = [index for _ in range(EPOCHS) for _, i, _ in loader.batches() for index in i.tolist()]
    assert [number for numbers in steps for number in numbers] == order


def small_model():
    model = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(4, activation="softmax")]
    )
    model.compile("sgd", "categorical_crossentropy")
    return model


class Seen(keras.callbacks.Callback):
    """Returns the epochs of the loader that `fit` went through."""

    def __init__(self, loader):
        super().__init__()
        self.loader = loader
        self.epochs = []
        original = loader._feed._next_epoch_reader

        def begin(plan_epoch):
            reader = original(plan_epoch)
            self.epochs.append(reader.plan.number)
            return reader

        loader._feed._next_epoch_reader = begin


def test_the_order_is_pinned_to_keras_epochs(tmp_path, path):
    train = h5v.video_dataset_from_hdf5(path, batch_size=8, seed=0)
    seen = Seen(train.loader)
    checkpoint = h5v.callbacks.FeedCheckpoint(train, tmp_path / "feed.json")
    for _ in range(3):
        next(iter(train))
    assert seen.epochs == [0, 1, 2]
    seen.epochs.clear()
    model = small_model()
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: next(iter(train)))
    model.fit(train, epochs=3, shuffle=False, verbose=0, callbacks=[checkpoint, seen, look])
    assert [seen.epochs[i] for i in (0, 2, 4)] == [0, 1, 2]
    seen.epochs.clear()
    model.fit(train, epochs=5, shuffle=False, initial_epoch=3, verbose=0, callbacks=[checkpoint])
    assert seen.epochs == [3, 4]
    assert not (tmp_path / "feed.json").exists()


class Noting(keras.Model):
    """Counts its steps, and notes which samples each one had."""

    def __init__(self):
        super().__init__()
        self.steps = []
        self.compile("sgd", run_eagerly=True)
        self.optimizer.build([])

    def call(self, x):
        return x

    def train_step(self, data):
        self.steps.append(data[1].numpy().tolist())
        self.optimizer.iterations.assign_add(1)
        return {"loss": 0.0}


@pytest.mark.parametrize("done", [1, 5, 6, 11, 12, 17, 23], ids="after {} steps".format)
@pytest.mark.parametrize("record", ["of the last epoch", "of the first epoch"])
def test_goes_on_after_any_step_and_through_all_epochs(
    tmp_path, path, expected, monkeypatch, done, record
):
    def with_a_slow_end(*arguments, **options):
        # The pipeline sees it when Keras is in the next epoch already.
        yield from bundled_elements(*arguments, **options)
        time.sleep(0.1)

    monkeypatch.setattr(pipeline, "bundled_elements", with_a_slow_end)
    file = tmp_path / "feed.json"
    begun = done // NUM_STEPS if record == "of the last epoch" else 0
    train = h5v.video_dataset_from_hdf5(path, y="numbers", batch_size=8, seed=3)
    file.write_text(
        json.dumps(
            {
                "state": train.loader.state_dict(epoch=begun, step=0),
                "records": [
                    {"iterations": begun * 6, "epoch": begun, "samples": 0, "batch_size": 8}
                ],
            }
        )
    )
    model = Noting()
    model.optimizer.iterations.assign(done)
    model.fit(
        train,
        epochs=EPOCHS,
        initial_epoch=done // NUM_STEPS,
        shuffle=False,
        verbose=0,
        callbacks=[h5v.callbacks.FeedCheckpoint(train, file)],
    )
    assert model.steps == expected[done:]


def test_a_repeated_dataset_is_pinned_once(tmp_path, path):
    # Its one iterator reads on over the ends of the epochs, and begins them early.
    train = h5v.video_dataset_from_hdf5(path, batch_size=8, seed=0)
    seen = Seen(train.loader)
    next(iter(train))
    checkpoint = h5v.callbacks.FeedCheckpoint(train, tmp_path / "feed.json", repeated=True)
    small_model().fit(
        train.repeat(),
        epochs=4,
        steps_per_epoch=NUM_STEPS,
        shuffle=False,
        verbose=0,
        callbacks=[checkpoint],
    )
    assert seen.epochs[:5] == [0, 0, 1, 2, 3]
    assert os.listdir(tmp_path) == []


def test_beside_model_checkpoint(tmp_path, path):
    train = h5v.video_dataset_from_hdf5(path, batch_size=8, seed=0)
    seen = Seen(train.loader)

    def fit(model, **options):
        checkpoint = h5v.callbacks.FeedCheckpoint(
            train, tmp_path / "feed.json", delete_checkpoint=False
        )
        saver = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
        model.fit(train, shuffle=False, verbose=0, callbacks=[saver, checkpoint], **options)

    fit(small_model(), epochs=3)
    seen.epochs.clear()
    restored = keras.models.load_model(tmp_path / "2.keras")
    with pytest.raises(ArgumentError, match="`initial_epoch` must be 2"):
        fit(restored, epochs=4)
    fit(restored, epochs=4, initial_epoch=2)
    assert seen.epochs == [2, 3]
    records = json.loads((tmp_path / "feed.json").read_text())["records"]
    assert [record["epoch"] for record in records] == [0, 1, 2, 2, 3, 4]


def test_positions_are_saved_every_few_steps(tmp_path, path, expected):
    train = h5v.video_dataset_from_hdf5(path, y="numbers", batch_size=8, seed=3)
    file = tmp_path / "feed.json"

    def fit(model):
        callback = h5v.callbacks.FeedCheckpoint(train, file, save_freq=4, delete_checkpoint=False)
        model.fit(train, shuffle=False, verbose=0, callbacks=[callback])
        assert model.steps == expected[:NUM_STEPS][-len(model.steps) :]
        return [list(item.values()) for item in json.loads(file.read_text())["records"]]

    assert fit(Noting()) == [[0, 0, 0, 8], [4, 0, 32, 8], [6, 1, 0, 8]]
    model = Noting()
    model.optimizer.iterations.assign(4)  # as if it had been killed after these
    assert fit(model)[1:] == [[4, 0, 32, 8], [4, 0, 32, 8], [6, 1, 0, 8]]
    assert len(model.steps) == NUM_STEPS - 4


def test_the_epoch_that_keras_restored_is_that_of_the_weights(tmp_path, path):
    train = h5v.video_dataset_from_hdf5(path, y="numbers", batch_size=8, seed=3)
    record = {"iterations": 6, "epoch": 1, "samples": 0, "batch_size": 8}
    content = {"state": train.loader.state_dict(epoch=1, step=0), "records": [record]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    for restored, expected in ((7, 1), (None, None)):
        model = Noting()
        model._initial_epoch = restored
        model.optimizer.iterations.assign(6)
        callback = h5v.callbacks.FeedCheckpoint(train, tmp_path / "a.json")
        callback.set_model(model)
        callback.on_train_begin()
        assert model._initial_epoch == expected


def test_the_first_worker_alone_writes(tmp_path, path):
    for number in (1, 0):
        context = tf.distribute.InputContext(2, number, 2)
        train = h5v.video_dataset_from_hdf5(path, batch_size=8, seed=3, input_context=context)
        file = tmp_path / f"{number}.json"
        callback = h5v.callbacks.FeedCheckpoint(train, file, delete_checkpoint=False)
        small_model().fit(train, shuffle=False, verbose=0, callbacks=[callback])
    assert os.listdir(tmp_path) == ["0.json"]


def test_other_data_is_an_error(tmp_path, path):
    train = h5v.video_dataset_from_hdf5(path, batch_size=8, seed=0)
    callback = h5v.callbacks.FeedCheckpoint(train, tmp_path / "a.json", delete_checkpoint=False)
    small_model().fit(train, shuffle=False, verbose=0, callbacks=[callback])
    other = h5v.video_dataset_from_hdf5(path, batch_size=8, seed=1)
    with pytest.raises(StateError, match="the order of the epoch"):
        small_model().fit(
            other,
            shuffle=False,
            verbose=0,
            callbacks=[h5v.callbacks.FeedCheckpoint(other, tmp_path / "a.json")],
        )
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(StateError, match=r"b\.json was not written by FeedCheckpoint"):
        small_model().fit(
            train,
            shuffle=False,
            verbose=0,
            callbacks=[h5v.callbacks.FeedCheckpoint(train, tmp_path / "b.json")],
        )


def test_a_record_of_batches_that_are_dropped_now_is_an_error(tmp_path, path):
    train = h5v.video_dataset_from_hdf5(path, batch_size=8, seed=3, drop_remainder=True)
    record = {"iterations": 0, "epoch": 0, "samples": 0, "batch_size": 64}
    content = {"state": train.loader.state_dict(epoch=0, step=0), "records": [record]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    callback = h5v.callbacks.FeedCheckpoint(train, tmp_path / "a.json")
    model = Noting()
    model.optimizer.iterations.assign(2)
    callback.set_model(model)
    with pytest.raises(StateError, match=r"batches of 64 samples.*Received: an epoch of 46"):
        callback.on_train_begin()


def test_before_backup_and_restore_is_an_error(tmp_path, path):
    train = h5v.video_dataset_from_hdf5(path, batch_size=8, seed=0)

    def callbacks(*, wrong):
        pair = [
            keras.callbacks.BackupAndRestore(str(tmp_path / "b"), delete_checkpoint=False),
            h5v.callbacks.FeedCheckpoint(train, tmp_path / "a.json", delete_checkpoint=False),
        ]
        return pair[::-1] if wrong else pair

    small_model().fit(train, shuffle=False, verbose=0, callbacks=callbacks(wrong=False))
    with pytest.raises(ArgumentError, match="after the callback that restores the model"):
        small_model().fit(
            train, epochs=2, shuffle=False, verbose=0, callbacks=callbacks(wrong=True)
        )


def test_wrong_arguments(tmp_path, path):
    train = h5v.video_dataset_from_hdf5(path, batch_size=8, seed=0)
    with pytest.raises(ArgumentError, match="`feed` must be a VideoLoader, or the dataset"):
        h5v.callbacks.FeedCheckpoint(train.repeat(), tmp_path / "a")
    with pytest.raises(ArgumentError, match="`save_freq` must be"):
        h5v.callbacks.FeedCheckpoint(train, tmp_path / "a", save_freq=0)
    singles = h5v.video_dataset_from_hdf5(path, batch_size=None)
    with pytest.raises(ArgumentError, match="batch_size=None"):
        h5v.callbacks.FeedCheckpoint(singles, tmp_path / "a")
    callback = h5v.callbacks.FeedCheckpoint(train, tmp_path / "a")
    callback.set_model(object())
    with pytest.raises(ArgumentError, match=r"step count from `model\.optimizer`"):
        callback.on_train_begin()


def test_a_device_is_the_last_stage(path):
    train = h5v.video_dataset_from_hdf5(path, batch_size=8, seed=0, device="/CPU:0")
    plain = h5v.video_dataset_from_hdf5(path, batch_size=8, seed=0)
    assert len(train) == int(train.cardinality()) == NUM_STEPS
    for _ in range(2):
        for (x, y), (wanted_x, wanted_y) in zip(train, plain, strict=True):
            assert "CPU:0" in x.device
            np.testing.assert_array_equal(x, wanted_x)
            np.testing.assert_array_equal(y, wanted_y)
    history = small_model().fit(train, epochs=2, shuffle=False, verbose=0)
    assert len(history.history["loss"]) == 2
