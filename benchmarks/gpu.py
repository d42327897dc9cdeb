"""Measures on a GPU: the utilisation of a real model, and copies to the device.

    python -m benchmarks.gpu --json gpu.json

`fit` trains 3-D convolutional classifiers from each feed, and with the batch on the device already:
utilisation (AU) is the one step time over the other. Copies to the device are of a batch, and of a
feed's batches. Keras runs on TensorFlow or, with KERAS_BACKEND=jax, on JAX; `tf.data` feeds either.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5video_data.callbacks.base import Callback

from .contenders import CONTENDERS, Job
from .contenders.ours import LoaderFeed
from .facts import UsageError, machine, open_file, versions, warm_cache
from .measure import Feed, in_turns, spread
from .report import head, megabytes
from .video_set import make_parser, open_sets, positive_integer

# Channels of the stages of a 3-D convolutional classifier, and convolutions of each stage.
MODELS = {"tiny": ((4,), 1), "small": ((16, 32, 64), 1), "large": ((64, 128, 256, 512), 2)}

# A turn of training ends after so long, or so many steps without a feed.
MAX_SECONDS = 3.0
RESIDENT_STEPS = 300


class Device(NamedTuple):
    """Where Keras trains."""

    backend: str  # tensorflow or jax: one may see a GPU where the other does not
    name: str
    is_gpu: bool
    put: Callable[[Any], Any]  # copies an array there, and waits


def find_device(*, cpu: bool = False) -> Device:
    """Returns the GPU that Keras trains on, for a rehearsal the CPU; raises UsageError if none."""
    import keras
    import tensorflow as tf

    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        # tf.data runs on the host; TensorFlow must not take the memory that the model needs.
        tf.config.set_visible_devices([], "GPU")
        gpus = [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    else:
        gpus = [
            tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
            for gpu in tf.config.list_physical_devices("GPU")
        ]
    if backend not in ("jax", "tensorflow") or not (gpus or cpu):
        raise UsageError(
            f"no GPU was found. Keras runs on its {backend} backend; if another one, tensorflow or "
            "jax, sees a GPU here, set KERAS_BACKEND. Without a GPU, an accelerator can be "
            "emulated: python -m benchmarks --accelerator emulated:unet3d-h100"
        )

    def put(x: Any) -> None:
        if backend == "jax":
            jax.device_put(x).block_until_ready()
            return
        # Host memory that TensorFlow takes as it is; only then a copy to the device.
        with tf.device("/CPU:0"):
            host = tf.convert_to_tensor(x)
        with tf.device("/GPU:0" if gpus else "/CPU:0"):
            tf.identity(host)
        tf.test.experimental.sync_devices()

    return Device(backend, str(gpus[0]) if gpus else "CPU", bool(gpus), put)


def make_models(name: str, batch: tuple[Any, Any], policy: str) -> dict[str, Any]:
    """Makes a classifier that is given its video in two ways: compiled models of shared layers.

    `fed` takes video as it is stored. `resident` takes numbers (batch, 1), which it ignores, for
    its first layer holds the batch: `fit` runs in the same way, but has nothing to copy.
    """
    import keras

    (clips, labels), (widths, depth) = batch, MODELS[name]
    layers, dtype, size = keras.layers, str(clips.dtype), len(clips)

    class Resident(keras.layers.Layer):  # type: ignore[misc]
        """Returns the clips that it holds, whatever it is given."""

        def build(self, _: Any) -> None:
            options = {"initializer": "zeros", "trainable": False, "dtype": dtype}
            self.clips = self.add_weight(shape=clips.shape, **options)
            self.clips.assign(clips)

        def call(self, _: Any) -> Any:
            return keras.ops.convert_to_tensor(self.clips)

    shared = [layers.Permute((1, 3, 4, 2), dtype=dtype)]
    shared += [layers.Rescaling(1 / 127.5, -1.0, dtype=policy)]
    for stage, width in enumerate(widths):
        for number in range(depth):
            strides = 1 if number else (2 if stage else 1, 2, 2)
            options = {"padding": "same", "activation": "relu", "dtype": policy}
            shared.append(layers.Conv3D(width, 3, strides=strides, **options))
    shared.append(layers.GlobalAveragePooling3D(dtype=policy))
    shared.append(layers.Dense(labels.shape[1], "softmax", dtype="float32"))

    def compiled(*first: Any) -> Any:
        optimizer: Any = keras.optimizers.SGD(0.001)
        if policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model = keras.Sequential([*first, *shared])
        model.compile(optimizer, "categorical_crossentropy")
        return model

    return {
        "fed": compiled(layers.Input(clips.shape[1:], batch_size=size, dtype=dtype)),
        "resident": compiled(layers.Input((1,), batch_size=size), Resident(dtype=dtype)),
    }


class Clock(Callback):
    """Measures how long a step takes, the first one left out, and ends the training in time.

    It has no hook at the end of a step: Keras on JAX would then wait for the device.
    """

    def __init__(self) -> None:
        self._begins: list[float] = []
        self.step_seconds = 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Makes the step the last one if time is up."""
        del batch, logs
        self._begins.append(time.perf_counter())
        if self._begins[-1] - self._begins[:2][-1] > MAX_SECONDS:
            self._model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Takes the time; the device is done, for the logs are numbers by then."""
        del epoch, logs
        begin = self._begins[:2][-1]
        self.step_seconds = (time.perf_counter() - begin) / max(1, len(self._begins) - 1)


def train(
    model: str, batch: tuple[Any, Any], feeds: dict[str, Feed], device: Device, rounds: int
) -> list[dict[str, Any]]:
    """Measures steps of a model, with its batch on the device, and from each feed: a row a feed."""
    import keras
    import tensorflow as tf

    models = make_models(model, batch, "mixed_float16" if device.is_gpu else "float32")
    ticks = np.zeros((len(batch[0]), 1), np.float32)

    def repeat(*tensors: Any) -> Feed:
        return Feed(tf.data.Dataset.from_tensors(tensors).repeat(RESIDENT_STEPS))

    def step(name: str, feed: Feed) -> float:
        feed.start_turn()
        clock = Clock()
        fit = models.get(name, models["fed"]).fit
        fit(feed.batches, verbose=0, shuffle=False, callbacks=[clock])
        return clock.step_seconds

    given = {"resident": repeat(ticks, batch[1]), "a batch in host memory": repeat(*batch), **feeds}
    measures = {name: functools.partial(step, name, feed) for name, feed in given.items()}
    found = in_turns(measures, rounds)
    keras.utils.clear_session()
    compute = np.array(found.pop("resident"))
    return [
        {
            "feed": name,
            "resident_step_seconds": spread(compute),
            "step_seconds": spread(seconds),
            "utilisation": spread(np.minimum(1, compute / seconds)),
        }
        for name, seconds in found.items()
    ]


def measure_copies(
    batch: NDArray[Any], feeds: dict[str, Feed], device: Device, rounds: int
) -> dict[str, tuple[float, float]]:
    """Measures bytes per second to the device, of a batch and of this package's feeds."""

    def deliver(feed: Feed, *, is_there: bool) -> float:
        num_batches = 0
        feed.start_turn()
        begin = time.perf_counter()
        assert feed.batches is not None
        for x, _ in feed.batches:
            num_batches += 1
            if not is_there:
                # The tensor's own memory: `numpy()` would copy it.
                device.put(np.asarray(memoryview(x)))
        if is_there:
            device.put(np.zeros(1))  # waits for the copies before
        return num_batches * batch.nbytes / (time.perf_counter() - begin)

    given = {"a batch": Feed([(batch, None)]), **feeds}
    measures = {
        name: functools.partial(deliver, feed, is_there="device=" in name)
        for name, feed in given.items()
        if name != "plain"
    }
    return {name: spread(speeds) for name, speeds in in_turns(measures, rounds).items()}


def measure(
    path: str, folder: str, batch_size: int, options: argparse.Namespace, device: Device
) -> dict[str, Any]:
    """Measures one file with batches of one size."""
    with open_file(path) as file:
        batch = file["X"][:batch_size], file["Y"][:batch_size]
    job = Job.of_file(path, folder, batch_size)
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:

        def ours(**arguments: Any) -> LoaderFeed:
            feed = LoaderFeed(job, **arguments)
            stack.enter_context(feed.loader)
            return feed

        feeds: dict[str, Feed] = {"h5video_data": ours()}
        if device.backend == "tensorflow":
            name = "/GPU:0" if device.is_gpu else "/CPU:0"
            feeds["h5video_data, device="] = ours(device=name)
            feeds["h5video_data, not pinned"] = ours(pin_memory=False)
            feeds["h5video_data, device=, not pinned"] = ours(device=name, pin_memory=False)
        feeds["plain"] = stack.enter_context(CONTENDERS["plain"].open(job))
        warm_cache(path)
        copies = measure_copies(batch[0], feeds, device, options.rounds)
        for model in options.models:
            try:
                found = train(model, batch, feeds, device, options.rounds)
                rows += [{"model": model, "failed": None, **row} for row in found]
            except Exception as error:  # the device's memory is too small, as a rule
                text = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
                rows.append({"model": model, "failed": text})
    return {"batch_size": batch_size, "copies": copies, "rows": rows}


def _print(found: dict[str, Any]) -> None:
    print(f"{found['layout']}, batch {found['batch_size']}: to the device, MB/s")
    for name, figures in found["copies"].items():
        print(f"  {name:40}{megabytes(figures):>16}")
    print(f"{'model':8}{'feed':32}{'resident':>12}{'fed':>18}{'AU':>6}")
    for row in found["rows"]:
        if row["failed"]:
            print(f"{row['model']:8}FAILED: {row['failed']}")
            continue
        resident, (fed, half) = row["resident_step_seconds"][0], row["step_seconds"]
        print(
            f"{row['model']:8}{row['feed']:32}{resident * 1000:9.2f} ms{fed * 1000:9.2f} "
            f"±{half * 1000:4.1f} ms{row['utilisation'][0]:6.0%}",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures; the exit code is 1 if a model failed, 2 if there is no GPU."""
    layouts = ["contiguous", "chunked", "gzip"]
    parser = make_parser("benchmarks.gpu", __doc__, layouts)
    add = parser.add_argument
    add("--batch-sizes", nargs="+", type=positive_integer, default=[32, 128])
    add("--models", nargs="+", choices=MODELS, default=["small", "large"])
    add("--rounds", type=positive_integer, default=3)
    add("--json", type=Path, metavar="OUT", help="write all figures")
    add("--cpu", action="store_true", help="a rehearsal, without a GPU")
    options = parser.parse_args(arguments)
    try:
        device = find_device(cpu=options.cpu)
    except UsageError as error:
        print(f"python -m benchmarks.gpu: {error}", file=sys.stderr)
        return 2
    results: list[dict[str, Any]] = []
    report = {"machine": machine(Path.cwd()), "versions": versions(), "results": results}
    print(f"{head(report)}\non {device.name}, Keras on {device.backend}")
    for layout, path, folder in open_sets(options):
        for size in options.batch_sizes:
            where = {"layout": layout, "device": device.name, "backend": device.backend}
            results.append({**where, **measure(path, folder, size, options, device)})
            _print(results[-1])
            if options.json:
                options.json.write_text(json.dumps(report, indent=1) + "\n")
    return int(any(row["failed"] for found in results for row in found["rows"]))


if __name__ == "__main__":
    sys.exit(main())
