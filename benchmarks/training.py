"""Real training on the device: how long a step takes when it is fed, and when it need not be."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np

from .contenders import Job, parse
from .contenders.ours import LoaderFeed
from .device import Device, copies, delivery, takes_device
from .files import open_file
from .measure import Feed, spread
from .models import make_models
from .settings import Say, Settings, UsageError
from .worker import SkippedError, open_here

# Feeds that `fit` is given, of those that were asked for.
TRAINED = ("h5video_data", "plain", "plain-prefetch", "read_direct", "tfrecord")

# A run is broken off after this long.
MAX_SECONDS = 10.0

# Steps of a run that needs no feed.
RESIDENT_STEPS = 30


def measure_training(
    path: str, num_samples: int, settings: Settings, folder: Path, device: Device, say: Say
) -> dict[str, Any]:
    """Trains classifiers of several sizes on a file, from several feeds.

    Args:
        path: The file.
        num_samples: How many of its samples take part, at most.
        settings: Which models, batch sizes and contenders; how many rounds.
        folder: Where copies go.
        device: Where Keras trains.
        say: Is told what happens.

    Returns:
        `device`, `backend`, `copies` by batch size, and `rows`: step times and utilisation.

    Raises:
        UsageError: The file's samples are not video.
    """
    with open_file(path) as file:
        if file["X"].ndim != 5 or file["Y"].ndim != 2:
            raise UsageError(
                f"{path}: training needs X (samples, frames, channels, rows, columns) and one-hot "
                f"Y (samples, classes). Received: {file['X'].shape}, {file['Y'].shape}"
            )
    report: dict[str, Any] = {
        "device": device.name,
        "backend": device.backend,
        "policy": device.mixed_precision,
        "has_device_argument": takes_device(),
        "copies": [],
        "rows": [],
    }
    for batch_size in settings.train_batch_sizes:
        job = Job(
            path,
            folder,
            num_samples // batch_size * batch_size,
            batch_size,
            settings.num_threads,
        )
        if job.steps < 2:
            say(f"training: skipped: {num_samples} samples make no two batches of {batch_size}")
            continue
        with contextlib.ExitStack() as stack:
            feeds = _open(job, settings, device, stack, say)
            with open_file(path) as file:
                batch = file["X"][:batch_size], file["Y"][:batch_size]
            report["copies"].append(
                {
                    "batch_size": batch_size,
                    "num_bytes": batch[0].nbytes,
                    **copies(device, batch[0]),
                    "delivered_bytes_per_second": {
                        name: spread(
                            [
                                delivery(device, feed, is_there=name.endswith("device="))
                                for _ in range(settings.rounds)
                            ]
                        )
                        for name, feed in feeds.items()
                        if name.startswith("h5video_data")
                    },
                }
            )
            for model in settings.train_models:
                try:
                    rows = _train(model, batch, feeds, settings.rounds, device, say)
                except Exception as error:  # too large for the device's memory, as a rule
                    text = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
                    say(f"training: {model}, batch {batch_size}: FAILED: {text}")
                    rows = [{"feed": None, "failed": text}]
                report["rows"] += [
                    {"model": model, "batch_size": batch_size, **row} for row in rows
                ]
    return report


def _open(
    job: Job, settings: Settings, device: Device, stack: contextlib.ExitStack, say: Say
) -> dict[str, Feed]:
    """What `fit` is given the batches of."""
    feeds: dict[str, Feed] = {}
    for entry in settings.contenders:
        name, _ = parse(entry)
        if name in TRAINED:
            try:
                feeds[entry] = stack.enter_context(open_here(name, job))
            except SkippedError as error:
                say(f"training: {entry}: skipped: {error}")
    if takes_device() and device.backend == "tensorflow" and "h5video_data" in feeds:
        there = LoaderFeed(job, "exact", device="/GPU:0" if device.is_gpu else "/CPU:0")
        stack.enter_context(there.loader)
        feeds["h5video_data, device="] = there
    return feeds


def _train(
    name: str,
    batch: tuple[Any, Any],
    feeds: dict[str, Feed],
    rounds: int,
    device: Device,
    say: Say,
) -> list[dict[str, Any]]:
    """Step times of one model: with its batch on the device already, and from each feed."""
    import keras
    import tensorflow as tf

    fed, resident = make_models(name, batch, device.mixed_precision)
    ticks = np.zeros((len(batch[0]), 1), np.float32)
    nothing = tf.data.Dataset.from_tensors((ticks, batch[1])).repeat(RESIDENT_STEPS)
    given = {"resident": Feed(nothing), **feeds}
    seconds: dict[str, list[float]] = {entry: [] for entry in given}
    for number in range(rounds + 1):
        for entry, feed in given.items():
            model = resident if entry == "resident" else fed
            feed.start_turn()
            # The first round compiles, and warms up.
            spent = _step_seconds(model, feed.batches, MAX_SECONDS if number else 1.0)
            if number:
                seconds[entry].append(spent)
                say(
                    f"training: {name}, batch {len(batch[0])}, round {number}/{rounds}: {entry}: "
                    f"{spent * 1000:.1f} ms a step"
                )
    keras.utils.clear_session()
    compute = np.array(seconds["resident"])
    return [
        {
            "feed": entry,
            "failed": None,
            "resident_step_seconds": spread(seconds["resident"]),
            "step_seconds": spread(values),
            "utilisation": spread(np.minimum(1, compute / values).tolist()),
            "bytes_per_second": batch[0].nbytes / spread(values)[0],
        }
        for entry, values in seconds.items()
        if entry != "resident"
    ]


def _step_seconds(model: Any, dataset: Any, max_seconds: float) -> float:
    """Seconds of a step in `fit`, the first one left out, whose data nobody could prepare."""
    import keras

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        """Notes when the first step and when all steps are done."""

        begin = end = 0.0
        steps = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 0:
                # Asks for the value, so waits for the device.
                float(logs["loss"])
                self.begin = time.perf_counter()
            self.steps += 1
            if self.steps > 2 and time.perf_counter() - self.begin > max_seconds:
                self.model.stop_training = True

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            # Keras has asked for the values of the last step by now.
            del epoch, logs
            self.end = time.perf_counter()

    clock = Clock()
    model.fit(dataset, verbose=0, shuffle=False, callbacks=[clock])
    return (clock.end - clock.begin) / max(1, clock.steps - 1)
