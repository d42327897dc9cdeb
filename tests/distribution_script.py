"""Run by test_distribution.py in processes of their own: TensorFlow's strategies at work.

    python distribution_script.py SCENARIO FILE FOLDER

TensorFlow is imported once, and the workers are forked before it has started anything.
"""

import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import keras
import tensorflow as tf
import tf_keras

import h5video_data as h5v

SEED = 3
EPOCHS = 3
# The first value of sample i of a file of h5v.testing is 59 i modulo 127.
SAMPLE_OF = {59 * number % 127: number for number in range(127)}


def numbers_of(clips):
    return [SAMPLE_OF[value] for value in clips[:, 0, 0, 0, 0].tolist()]


def make_model(k, note):
    """A model that calls `note(iterations, samples)` at each step of each replica."""

    class Model(k.Model):
        def __init__(self):
            super().__init__()
            self.flatten = k.layers.Flatten()
            self.dense = k.layers.Dense(4, activation="softmax")

        def call(self, clips):
            return self.dense(self.flatten(tf.cast(clips, tf.float32) / 127))

        def train_step(self, data):
            clips, labels = data
            return super().train_step((noted(clips, self.optimizer.iterations, note), labels))

    model = Model()
    model.compile(k.optimizers.SGD(0.1), "categorical_crossentropy")
    model(tf.zeros((1, 2, 1, 4, 4)))
    return model


def noted(clips, iterations, note):
    def call(values, step):
        note(int(step), numbers_of(values))
        return True

    done = tf.numpy_function(call, [clips, tf.convert_to_tensor(iterations)], tf.bool)
    with tf.control_dependencies([done]):
        return tf.identity(clips)


class Notes:
    """The samples of each step: one list for each replica that had some."""

    def __init__(self):
        self.steps = {}

    def __call__(self, step, numbers):
        self.steps.setdefault(step, []).append(numbers)

    def as_list(self):
        return [self.steps[step] for step in sorted(self.steps)]


def logical_devices(number):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * number
    )


def mirrored(number):
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(number)])


def one_machine(path, folder):
    """MirroredStrategy: fit on the plain dataset, and loops over both kinds of distribution."""
    # In processes of their own: TensorFlow keeps the number of devices that were first mirrored.
    two = run_workers([lambda: on_devices(path, folder, 2, {12: (keras, tf_keras)})])
    three = run_workers([lambda: on_devices(path, folder, 3, {15: (keras,), 12: ()})])
    assert two == three == [0]


def on_devices(path, folder, number, kerases_of):
    logical_devices(number)
    strategy = mirrored(number)
    found = {}
    for batch_size, kerases in kerases_of.items():
        for k in kerases:
            train = h5v.video_dataset_from_hdf5(path, batch_size=batch_size, seed=SEED)
            notes = Notes()
            with strategy.scope():
                model = make_model(k, notes)
            checkpoint = h5v.callbacks.FeedCheckpoint(train, folder / f"feed.{number}.json")
            history = model.fit(
                train,
                epochs=EPOCHS,
                validation_data=h5v.video_dataset_from_hdf5(
                    path, batch_size=batch_size, shuffle=False
                ),
                shuffle=False,
                verbose=0,
                callbacks=[checkpoint],
            )
            assert len(history.history["val_loss"]) == EPOCHS
            found[f"fit {k.__name__} {number} {batch_size}"] = notes.as_list()

        def batches(distributed, strategy=strategy):
            return [
                [numbers_of(part.numpy()) for part in strategy.experimental_local_results(clips)]
                for _ in range(EPOCHS)
                for clips, _ in distributed
            ]

        plain = h5v.video_dataset_from_hdf5(path, batch_size=batch_size, seed=SEED)
        distributed = strategy.experimental_distribute_dataset(plain)
        found[f"plain loop {number} {batch_size}"] = batches(distributed)
        distributed = strategy.distribute_datasets_from_function(
            lambda context, batch_size=batch_size: h5v.video_dataset_from_hdf5(
                path, batch_size=batch_size, seed=SEED, input_context=context
            )
        )
        found[f"context loop {number} {batch_size}"] = batches(distributed)
    (folder / f"found.{number}.json").write_text(json.dumps(found))


def one_machine_killed(path, folder):
    """Keras 3's fit under MirroredStrategy, killed at random steps, until one run gets through."""
    rng = random.Random(1)

    def train(number, kill_at):
        logical_devices(2)
        data = h5v.video_dataset_from_hdf5(path, batch_size=12, seed=SEED)
        log = Log(folder / f"log.{number}.0")
        with mirrored(2).scope():
            model = make_model(keras, log)
        model.fit(
            data,
            epochs=EPOCHS,
            shuffle=False,
            verbose=0,
            callbacks=[
                keras.callbacks.BackupAndRestore(str(folder / "backup"), save_freq=2),
                h5v.callbacks.FeedCheckpoint(data, folder / "feed.json"),
                killer(keras, kill_at),
            ],
        )

    for number, kill_at in enumerate([rng.randint(2, 6), rng.randint(3, 6), 0]):
        (status,) = run_workers([lambda number=number, kill_at=kill_at: train(number, kill_at)])
        assert status == (-signal.SIGKILL if kill_at else 0)


class Log:
    """Writes each step's samples to a file, at once, so that it outlives the process."""

    def __init__(self, path):
        self.path = path

    def __call__(self, step, numbers):
        with open(self.path, "a") as file:
            file.write(json.dumps([step, numbers]) + "\n")


def killer(k, steps):
    """A callback that kills the process before so many steps; never, if 0."""

    class Killer(k.callbacks.Callback):
        left = steps

        def on_train_batch_begin(self, batch, logs=None):
            del batch, logs
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return Killer()


def several_machines(path, folder):
    """MultiWorkerMirroredStrategy: a loop with Keras 3, fit of tf_keras, fit on a plain dataset."""

    def work():
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        found = {}

        loaders = []

        def share(context):
            loaders.append(h5v.VideoLoader(path, batch_size=12, seed=SEED, input_context=context))
            return loaders[-1].dataset()

        distributed = strategy.distribute_datasets_from_function(share)
        notes = Notes()
        with strategy.scope():
            model = make_model(keras, notes)
            optimizer = model.optimizer
            optimizer.build(model.trainable_variables)
        loss_of = keras.losses.CategoricalCrossentropy(reduction="none")

        def replica_step(clips, labels):
            clips = noted(clips, optimizer.iterations, notes)
            with tf.GradientTape() as tape:
                losses = loss_of(labels, model(clips, training=True))
                loss = tf.nn.compute_average_loss(losses, global_batch_size=12)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

        @tf.function(reduce_retracing=True)
        def step(batch):
            strategy.run(replica_step, args=batch)

        for _ in range(EPOCHS):
            for batch in distributed:
                step(batch)
        found["loop"] = notes.as_list()
        found["loop weights"] = [float(tf.reduce_sum(v)) for v in model.trainable_variables]
        # An epoch's rest was read ahead, perhaps; so count what was read for whole epochs.
        reader = h5v.VideoLoader(
            path, batch_size=12, seed=SEED, input_context=loaders[0]._options.input_context
        )
        indices = [i for _, batch, _ in reader.batches() for i in batch.tolist()]
        found["own"] = indices
        found["read"] = loaders[0].stats.read_bytes / len(indices) / EPOCHS

        distributed = strategy.distribute_datasets_from_function(lambda c: share(c).repeat())
        notes = Notes()
        with strategy.scope():
            model = make_model(tf_keras, notes)
        checkpoint = h5v.callbacks.FeedCheckpoint(
            loaders[-1], folder / "several_machines.json", repeated=True
        )
        model.fit(distributed, epochs=EPOCHS, steps_per_epoch=4, verbose=0, callbacks=[checkpoint])
        found["fit on shares"] = notes.as_list()

        plain = h5v.video_dataset_from_hdf5(path, batch_size=12, seed=SEED)
        notes = Notes()
        with strategy.scope():
            model = make_model(tf_keras, notes)
        model.fit(
            plain,
            epochs=EPOCHS,
            verbose=0,
            callbacks=[h5v.callbacks.FeedCheckpoint(plain, folder / "plain.json")],
        )
        found["fit on a plain dataset"] = notes.as_list()
        index = strategy.cluster_resolver.task_id
        (folder / f"found.{index}.json").write_text(json.dumps(found))

    assert run_workers([work, work]) == [0, 0]


def several_machines_killed(path, folder):
    """tf_keras: two workers, of which one is killed; two again, killed; the end with one alone."""

    def work(run, index, kill_at):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        loaders = []

        def share(context):
            loaders.append(h5v.VideoLoader(path, batch_size=12, seed=SEED, input_context=context))
            return loaders[-1].dataset().repeat()

        distributed = strategy.distribute_datasets_from_function(share)
        with strategy.scope():
            model = make_model(tf_keras, Log(folder / f"log.{run}.{index}"))
        model.fit(
            distributed,
            epochs=EPOCHS,
            steps_per_epoch=4,
            verbose=0,
            callbacks=[
                tf_keras.callbacks.BackupAndRestore(str(folder / "backup"), save_freq=2),
                h5v.callbacks.FeedCheckpoint(loaders[0], folder / "feed.json", repeated=True),
                killer(tf_keras, kill_at),
            ],
        )

    runs = [(2, 4), (2, 6), (1, 0)]
    for run, (number, kill_at) in enumerate(runs):
        statuses = run_workers(
            [
                # The first worker is killed in the first run, the second one in the next.
                lambda run=run, index=index, at=kill_at if index == run else 0: work(run, index, at)
                for index in range(number)
            ]
        )
        assert (-signal.SIGKILL in statuses) == (kill_at > 0), statuses
    assert statuses == [0]


def run_workers(functions):
    """Runs functions in processes that make up a cluster; gives their exit statuses.

    When one of them has died, so must the others, as the cluster's manager would have it.
    """
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in functions]
    addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]
    for server in servers:
        server.close()
    pids = []
    for index, function in enumerate(functions):
        task = {"type": "worker", "index": index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        pid = os.fork()
        if not pid:
            status = 1
            try:
                function()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        pids.append(pid)
    statuses = {}
    end = time.monotonic() + 220
    try:
        while len(statuses) < len(pids) and not any(statuses.values()):
            for pid in set(pids) - set(statuses):
                if (ended := os.waitpid(pid, os.WNOHANG))[0]:
                    statuses[pid] = os.waitstatus_to_exitcode(ended[1])
            assert time.monotonic() < end, "the workers hang"
            time.sleep(0.05)
    finally:
        for pid in set(pids) - set(statuses):
            os.kill(pid, signal.SIGTERM)
            statuses[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return [statuses[pid] for pid in pids]


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
