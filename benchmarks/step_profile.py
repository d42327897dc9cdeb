"""Some steps of `fit`, as the profiler sees the device: when does it wait for the feed?

    python -m benchmarks.step_profile --plot steps.png

Traces the same classifier with its batch on the device already, fed by this package, and fed by the
plain generator; by TensorFlow's profiler or JAX's, whichever Keras runs on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contenders import Job, num_processors
from .contenders.ours import LoaderFeed
from .device import Device, find_device
from .files import open_file
from .measure import warm_cache
from .models import MODELS, make_models
from .pace import Pace
from .settings import UsageError
from .video_set import LAYOUTS, SAMPLE_SHAPE, make_set
from .worker import open_here

# Steps before the trace: compilation, and batches that were read ahead of the first step.
# No more than an epoch in all: its end would be a gap.
WARM_STEPS = 20
TRACED_STEPS = 40

# XLA gives a stream's line this name if the profiler itself has an entry there.
OVERHEAD = "CUPTI overhead"

# What is drawn from the middle of the trace.
DRAWN_SECONDS = 0.1

FEEDS = ("resident", "h5video_data", "plain")


@dataclass(frozen=True)
class Timeline:
    """When the device was busy: float64 (intervals, 2), seconds from the first, ascending."""

    computing: NDArray[np.float64]
    copying: NDArray[np.float64]

    @property
    def seconds(self) -> float:
        """From the first computation's beginning to the last one's end."""
        return float(self.computing[-1, 1] - self.computing[0, 0])

    @property
    def busy_share(self) -> float:
        """Of that time, the share in which something was computed."""
        return float(np.diff(self.computing).sum()) / self.seconds

    @property
    def longest_gap(self) -> float:
        """Seconds between two computations."""
        gaps = self.computing[1:, 0] - self.computing[:-1, 1]
        return float(gaps.max(initial=0.0))


def trace(model: Any, dataset: Any, backend: str, folder: Path) -> Path:
    """Trains until the feed is in its stride, and then some steps under the profiler.

    Args:
        model: Compiled.
        dataset: Of as many batches as are needed, or more.
        backend: `tensorflow` or `jax`.
        folder: Where the profiler writes.

    Returns:
        The trace, an `.xplane.pb`.
    """

    class Profiler(Pace):
        """Starts the profiler after some steps, and stops it after some more."""

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if batch in (WARM_STEPS, WARM_STEPS + TRACED_STEPS):
                self.wait()
            if batch == WARM_STEPS:
                _start(backend, folder)
            elif batch == WARM_STEPS + TRACED_STEPS:
                _stop(backend)
                self._model.stop_training = True
            super().on_train_batch_begin(batch, logs)

    # The first time takes seconds, in which a feed would read ahead.
    _start(backend, folder / "first")
    _stop(backend)
    model.fit(dataset.repeat(), verbose=0, shuffle=False, callbacks=[Profiler()],
              steps_per_epoch=WARM_STEPS + TRACED_STEPS + 1)  # fmt: skip
    return max(folder.glob("plugins/profile/*/*.xplane.pb"))


def read_trace(path: Path, *, plane: str = "/device:GPU:0") -> Timeline:
    """When the device computed, and when bytes were copied to it.

    Args:
        path: An `.xplane.pb`.
        plane: The device's name in it.

    Raises:
        UsageError: Nothing was computed there.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(path.read_bytes())
    computing: list[tuple[float, float]] = []
    copying: list[tuple[float, float]] = []
    for found in space.planes:
        if found.name != plane:
            continue
        for line in found.lines:
            # A GPU has more lines, made of these: operations, modules, steps.
            if plane.startswith("/device") and not line.name.startswith(("Stream", OVERHEAD)):
                continue
            for event in line.events:
                name = found.event_metadata[event.metadata_id].name
                if line.name == OVERHEAD and name.replace("_", "").isupper():
                    continue  # such as BUFFER_FLUSH
                begin = line.timestamp_ns * 1e-9 + event.offset_ps * 1e-12
                kind = copying if "memcpy" in name.lower() else computing
                kind.append((begin, begin + event.duration_ps * 1e-12))
    if not computing:
        planes = ", ".join(
            f"{found.name}, with {[line.name for line in found.lines]}"
            if found.name == plane
            else found.name
            for found in space.planes
        )
        raise UsageError(f"{path}: nothing was computed on {plane}. The trace has: {planes}")
    start = min(begin for begin, _ in computing)
    return Timeline(*(_joined(np.array(kind).reshape(-1, 2) - start)
                      for kind in (computing, copying)))  # fmt: skip


def _joined(intervals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intervals that overlap, as one."""
    if not len(intervals):
        return intervals
    intervals = intervals[np.argsort(intervals[:, 0])]
    ends = np.maximum.accumulate(intervals[:, 1])
    is_new = np.concatenate([[True], intervals[1:, 0] > ends[:-1]])
    return np.stack([intervals[is_new, 0], ends[np.append(is_new[1:], True)]], axis=1)


def draw(timelines: dict[str, Timeline], path: str, title: str) -> None:
    """Draws the middle of each timeline: computing above, copying below."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(
        len(timelines), 1, figsize=(11, 1.5 * len(timelines) + 1), sharex=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, (name, timeline) in zip(grid[:, 0], timelines.items(), strict=True):
        middle = timeline.seconds / 2
        rows = [(timeline.copying, "#c08a3e"), (timeline.computing, "#2a7f62")]
        for place, (intervals, colour) in enumerate(rows):
            bars = [(1000 * (begin - middle), 1000 * (end - begin)) for begin, end in intervals]
            axes.broken_barh(bars, (place - 0.4, 0.8), color=colour, linewidth=0)
        axes.set_yticks((0, 1), ("copying", "computing"))
        axes.set_title(f"{name}: computing {timeline.busy_share:.1%} of the time, "
                       f"longest gap {timeline.longest_gap * 1000:.2f} ms",
                       loc="left", fontsize=10)  # fmt: skip
        axes.spines[["top", "right"]].set_visible(False)
    grid[-1, 0].set(xlim=(0, 1000 * DRAWN_SECONDS), xlabel="ms")
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def measure(path: str, model: str, batch_size: int, device: Device, folder: Path) -> dict[str, Any]:
    """The timelines of `FEEDS` on a file."""
    import tensorflow as tf

    with open_file(path) as file:
        batch = file["X"][:batch_size], file["Y"][:batch_size]
        num_samples = len(file["X"]) // batch_size * batch_size
    warm_cache(path)
    job = Job(path, folder, num_samples, batch_size, num_processors())
    models = make_models(model, batch, device.mixed_precision)
    ticks = np.zeros((batch_size, 1), np.float32)
    timelines = {}
    with contextlib.ExitStack() as stack:
        ours = LoaderFeed(job, "exact")
        stack.enter_context(ours.loader)
        plain = stack.enter_context(open_here("plain", job))
        datasets = {
            "resident": tf.data.Dataset.from_tensors((ticks, batch[1])),
            "h5video_data": ours.batches,
            "plain": plain.batches,
        }
        for name in FEEDS:
            chosen = models.resident if name == "resident" else models.fed
            written = trace(chosen, datasets[name], device.backend, folder / name)
            plane = "/device:GPU:0" if device.is_gpu else "/host:CPU"
            timelines[name] = read_trace(written, plane=plane)
    return timelines


def _start(backend: str, folder: Path) -> None:
    if backend == "jax":
        import jax

        options = jax.profiler.ProfileOptions()
        # By default, every call of a Python function is traced, which costs feeds in Python much.
        options.python_tracer_level = 0
        jax.profiler.start_trace(str(folder), profiler_options=options)
    else:
        import tensorflow as tf

        tf.profiler.experimental.start(str(folder))


def _stop(backend: str) -> None:
    if backend == "jax":
        import jax

        jax.profiler.stop_trace()
    else:
        import tensorflow as tf

        tf.profiler.experimental.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Traces, prints a line for each feed, and draws."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.step_profile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--layout", choices=LAYOUTS, default="contiguous")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--sample-shape", nargs=4, type=int, default=SAMPLE_SHAPE)
    parser.add_argument("--model", choices=MODELS, default="small")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--folder", type=Path, help="make the set here (default: temporary)")
    parser.add_argument("--plot", metavar="OUT.png")
    parser.add_argument("--cpu", action="store_true", help="a rehearsal, without a GPU")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        device = find_device(cpu=options.cpu)
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.folder or Path(temporary)
            path = make_set(folder, options.layout, options.samples, tuple(options.sample_shape))
            timelines = measure(path, options.model, options.batch_size, device, Path(temporary))
    except UsageError as error:
        print(f"python -m benchmarks.step_profile: {error}", file=sys.stderr)
        return 2
    title = f"{TRACED_STEPS} steps of the {options.model} model, batch {options.batch_size}, "
    title += f"{options.layout}, on {device.name}, Keras on {device.backend}"
    print(title)
    for name, timeline in timelines.items():
        print(
            f"{name:14}{timeline.seconds / TRACED_STEPS * 1000:9.2f} ms a step, computing "
            f"{timeline.busy_share:6.1%}, longest gap {timeline.longest_gap * 1000:8.2f} ms"
        )
    if options.plot:
        draw(timelines, options.plot, title)
    return 0


if __name__ == "__main__":
    sys.exit(main())
