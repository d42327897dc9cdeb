"""Training on several machines, each of which reads its part of every batch and nothing else.

Run this on each machine, with TF_CONFIG set as TensorFlow requires, the same file, and a folder
that all of them share:

    python examples/several_machines.py --data /shared/video_data.h5 --folder /shared/training

To try it with two workers on this machine, and a small test file:

    python examples/several_machines.py --local 2

The training loop is written out because `fit` of Keras 3 does not run under
MultiWorkerMirroredStrategy. If a worker dies, restart all of them; they resume after the last saved
step.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time

import tensorflow as tf

import h5video_data as h5v

MAX_STARTS = 5


def make_model(clips: tf.TensorSpec, labels: tf.TensorSpec) -> tf.keras.Model:
    """Returns a small classifier."""
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input(clips.shape[1:]),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(labels.shape[1], activation="softmax"),
        ]
    )


def train(arguments: argparse.Namespace) -> None:
    """Trains as one of the workers."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()  # before any other use of TensorFlow
    own_part = []
    contexts = []

    def make_dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
        # `seed` must be given: all workers divide the batches of the same order.
        dataset = h5v.video_dataset_from_hdf5(
            arguments.data, batch_size=arguments.batch_size, seed=0, input_context=context
        )
        own_part.append(dataset)
        contexts.append(context)
        return dataset

    dataset = strategy.distribute_datasets_from_function(make_dataset)
    loader = own_part[0].loader
    worker = contexts[0].input_pipeline_id

    with strategy.scope():
        model = make_model(*own_part[0].element_spec)
        optimizer = tf.keras.optimizers.Adam()
        optimizer.build(model.trainable_variables)
    position = tf.Variable("", dtype=tf.string)
    loss_of = tf.keras.losses.CategoricalCrossentropy(reduction="none")

    def replica_step(clips: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            losses = loss_of(labels, model(clips, training=True))
            # A sample has the same weight in all batches, also in a smaller last one.
            loss = tf.nn.compute_average_loss(losses, global_batch_size=arguments.batch_size)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    def worker_step(batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(replica_step, args=batch), axis=None)

    train_step = tf.function(worker_step, reduce_retracing=True)

    # Weights and position are saved together. All workers must save, but only the first worker's
    # checkpoint is restored.
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, position=position)
    own = arguments.folder if worker == 0 else os.path.join(arguments.folder, f"worker_{worker}")
    manager = tf.train.CheckpointManager(checkpoint, own, max_to_keep=2)
    epoch = used = 0
    if latest := tf.train.latest_checkpoint(arguments.folder):
        checkpoint.restore(latest).assert_consumed()
        state = json.loads(position.numpy())
        loader.load_state_dict(state)
        epoch, used = state["epoch"], state["samples"]
        print(f"worker {worker} resumes in epoch {epoch} after {used} samples", flush=True)

    def save(epoch: int, used: int) -> None:
        position.assign(json.dumps(loader.state_at(epoch=epoch, samples=used)))
        manager.save()

    while epoch < arguments.epochs:
        total = tf.constant(0.0)
        for step, batch in enumerate(dataset, 1):
            total += train_step(batch)
            if step % arguments.save_every == 0:
                save(epoch, used + step * arguments.batch_size)
        epoch, used = epoch + 1, 0
        save(epoch, used)
        if worker == 0:
            print(f"epoch {epoch}: loss {float(total) / step:.4f} in {step} steps", flush=True)
    print(f"worker {worker} read {loader.stats.read_bytes} bytes", flush=True)


def start_workers(number: int) -> None:
    """Starts workers on this machine, and restarts all of them if one dies."""
    for _ in range(MAX_STARTS):
        addresses = free_addresses(number)
        workers = []
        for index in range(number):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
            workers.append(subprocess.Popen([sys.executable, *sys.argv], env=environment))
            print(f"worker {index} is process {workers[-1].pid}", flush=True)
        try:
            while any(worker.poll() is None for worker in workers):
                if any(worker.poll() for worker in workers):
                    break
                time.sleep(0.1)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        if not any(worker.returncode for worker in workers):
            return
        print("a worker has died: all workers are restarted", flush=True)
    sys.exit(f"Workers died in each of {MAX_STARTS} starts.")


def free_addresses(number: int) -> list[str]:
    """Returns unused addresses of this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in sockets]
    for server in sockets:
        server.close()
    return addresses


def main() -> None:
    """Parses the arguments; trains, or starts workers that train."""
    parser = argparse.ArgumentParser(description="Training on several machines.")
    parser.add_argument("--data", help="HDF5 file; default: a small test file, for --local")
    parser.add_argument(
        "--folder", default="training", help="folder for checkpoints, shared by all workers"
    )
    parser.add_argument(
        "--batch-size", type=int, default=24, help="global batch size, of all workers"
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--save-every", type=int, default=50, help="steps between checkpoints")
    parser.add_argument("--local", type=int, help="number of workers to start on this machine")
    arguments = parser.parse_args()
    if arguments.data is None:
        arguments.data = os.path.join(arguments.folder, "video_data.h5")
        if not os.path.exists(arguments.data):
            os.makedirs(arguments.folder, exist_ok=True)
            h5v.testing.write_video_file(arguments.data, num_samples=120)
    if arguments.local and "TF_CONFIG" not in os.environ:
        start_workers(arguments.local)
    else:
        train(arguments)


if __name__ == "__main__":
    main()
