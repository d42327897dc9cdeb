"""Real training on the device: how long a step takes when it is fed, and when it need not be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .contenders import Job, parse
from .contenders.ours import LoaderFeed
from .device import Device, Put, copies, delivery, takes_device
from .files import open_file
from .measure import Feed, spread
from .models import OFFSET, SCALE, make_models
from .pace import Clock
from .pinned import Cuda, CudaError, find_cuda, pin_buffers
from .settings import Say, Settings, UsageError
from .worker import SkippedError, open_here

# Feeds that `fit` is given, of those that were asked for.
TRAINED = ("h5video_data", "plain", "plain-prefetch", "read_direct", "tfrecord")

# More feeds of this package: the last stage copies to the device; buffers are pinned; turned and
# scaled by map functions, for a model that need not.
TO_DEVICE = "h5video_data, device="
PINNED = "h5video_data, pinned"
PREPARED = "h5video_data, prepared on the host"

# No feed at all: the same batch from host memory, which `fit` copies like any other.
HOST = "a batch in host memory"

# JAX copies a batch to pinned memory of its own first, whatever memory it is in: there, what it
# brings that buffers are pinned is seen in copies by the driver.
BY_DRIVER = ", by the driver"

# Steps of a run that needs no feed, at most: some take a millisecond.
RESIDENT_STEPS = 300


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
        `device`, `backend`, `link`: bytes per second to the device from pageable and from pinned
        memory, by the driver alone, `copies` by batch size, and `rows`: step times and utilisation.

    Raises:
        UsageError: The file's samples are not video.
    """
    with open_file(path) as file:
        if file["X"].ndim != 5 or file["Y"].ndim != 2:
            raise UsageError(
                f"{path}: training needs X (samples, frames, channels, rows, columns) and one-hot "
                f"Y (samples, classes). Received: {file['X'].shape}, {file['Y'].shape}"
            )
    cuda = None
    try:
        cuda = find_cuda()
        link = cuda.limits()
    except CudaError as error:
        say(f"training: {PINNED}: skipped: {error}")
        link = None
    report: dict[str, Any] = {
        "device": device.name,
        "backend": device.backend,
        "policy": device.mixed_precision,
        "has_device_argument": takes_device(),
        "link": link,
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
        with contextlib.ExitStack() as stack, _failing(report, "all", batch_size, say):
            feeds = _open(job, settings, device, cuda, stack, say)
            with open_file(path) as file:
                batch = file["X"][:batch_size], file["Y"][:batch_size]
            report["copies"].append(
                {
                    "batch_size": batch_size,
                    "num_bytes": batch[0].nbytes,
                    **copies(device, batch[0]),
                    "delivered_bytes_per_second": _delivered(
                        device, feeds, cuda, batch[0].nbytes, settings.rounds
                    ),
                }
            )
            for model in settings.train_models:
                with _failing(report, model, batch_size, say):
                    rows = _train(model, batch, feeds, settings, device, say)
                    report["rows"] += [
                        {"model": model, "batch_size": batch_size, **row} for row in rows
                    ]
    return report


@contextlib.contextmanager
def _failing(report: dict[str, Any], model: str, batch_size: int, say: Say) -> Iterator[None]:
    """Makes a row of an error: the device's memory is too small, as a rule."""
    try:
        yield
    except Exception as error:
        text = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        say(f"training: {model}, batch {batch_size}: FAILED: {text}")
        row = {"model": model, "batch_size": batch_size, "feed": None, "failed": text}
        report["rows"].append(row)


def _delivered(
    device: Device, feeds: dict[str, Feed], cuda: Cuda | None, num_bytes: int, rounds: int
) -> dict[str, tuple[float, float]]:
    """Bytes per second of this package's feeds that arrive on the device."""
    found: dict[str, tuple[float, float]] = {}

    def measure(name: str, put: Put | None, suffix: str = "") -> None:
        if name in feeds:
            turns = [
                delivery(device, feeds[name], is_there=name == TO_DEVICE, put=put)
                for _ in range(rounds)
            ]
            found[name + suffix] = spread(turns)

    by_jax = device.backend == "jax"
    for name in ("h5video_data", TO_DEVICE, *(() if by_jax else (PINNED,))):
        measure(name, None)
    if cuda is not None and by_jax:
        with cuda.receiver(num_bytes) as put:
            for name in ("h5video_data", PINNED):
                measure(name, put, BY_DRIVER)
    return found


def _open(
    job: Job,
    settings: Settings,
    device: Device,
    cuda: Cuda | None,
    stack: contextlib.ExitStack,
    say: Say,
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
    if "h5video_data" not in feeds:
        return feeds

    def add(name: str, **options: Any) -> LoaderFeed:
        feed = feeds[name] = LoaderFeed(job, "exact", **options)
        stack.enter_context(feed.loader)
        return feed

    if takes_device() and device.backend == "tensorflow":
        add(TO_DEVICE, device="/GPU:0" if device.is_gpu else "/CPU:0")
    add(PREPARED, map_fn=_prepare)
    if cuda is not None:
        try:
            pin_buffers(add(PINNED).loader, cuda)
        except CudaError as error:
            del feeds[PINNED]
            say(f"training: {PINNED}: skipped: {error}")
    return feeds


def _prepare(x: Any, y: Any) -> tuple[Any, Any]:
    """What the model's first layers do, on the host."""
    import tensorflow as tf

    return tf.cast(tf.transpose(x, (0, 1, 3, 4, 2)), tf.float32) * SCALE + OFFSET, y


def _train(
    name: str,
    batch: tuple[Any, Any],
    feeds: dict[str, Feed],
    settings: Settings,
    device: Device,
    say: Say,
) -> list[dict[str, Any]]:
    """Step times of one model: with its batch on the device already, and from each feed."""
    import keras
    import tensorflow as tf

    models = make_models(name, batch, device.mixed_precision)
    takes = {"resident": models.resident, PREPARED: models.prepared}
    ticks = np.zeros((len(batch[0]), 1), np.float32)
    nothing = tf.data.Dataset.from_tensors((ticks, batch[1])).repeat(RESIDENT_STEPS)
    held = tf.data.Dataset.from_tensors(batch).repeat(RESIDENT_STEPS)
    given = {"resident": Feed(nothing), HOST: Feed(held), **feeds}
    if device.backend == "jax":
        given.pop(PINNED, None)  # Keras makes a copy of each batch there
    seconds: dict[str, list[float]] = {entry: [] for entry in given}
    for number in range(settings.rounds + 1):
        for entry, feed in given.items():
            model = takes.get(entry, models.fed)
            feed.start_turn()
            # The first round compiles, and warms up.
            clock = Clock(settings.max_seconds if number else 1.0)
            model.fit(feed.batches, verbose=0, shuffle=False, callbacks=[clock])
            spent = clock.step_seconds
            if number:
                seconds[entry].append(spent)
                say(
                    f"training: {name}, batch {len(batch[0])}, round {number}/{settings.rounds}: "
                    f"{entry}: {spent * 1000:.1f} ms a step"
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
