"""Who takes part: each in a file with a function `open_feed`, a context manager over a `Feed`.

`open_feed(job)` opens what it needs, makes its copy of the data if it works on one, and closes it
all at the end. A module may also have `why_not(job)`, which tells why it cannot take part, or None.
A module of several contenders gets the variant as a second argument of both.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.files import open_file
from benchmarks.measure import Feed

INSTALL = "pip install '.[bench]'"


@dataclass(frozen=True)
class Job:
    """What is to be fed: all contenders get the same."""

    path: str
    """The HDF5 file, with `X` (samples, ...) and `Y` (samples, ...)."""
    folder: Path
    """Where to make copies."""
    num_samples: int
    """The first samples of the file take part, these many: a multiple of `batch_size`."""
    batch_size: int
    num_threads: int
    workers: int | None = None
    """Worker processes or threads of a contender that has them; None: its own default."""
    seed: int = 0

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.num_samples // self.batch_size

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The samples in the order of an epoch, for contenders that are given one."""
        return np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)

    def batches(self, epoch: int) -> NDArray[np.int64]:
        """The same, int64 (steps, batch_size)."""
        return self.order(epoch).reshape(self.steps, self.batch_size)

    def array_specs(self) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
        """The shape and the dtype of a batch of `X`, and of one of `Y`."""
        with open_file(self.path) as file:
            return [
                ((self.batch_size, *file[name].shape[1:]), file[name].dtype.newbyteorder("="))
                for name in ("X", "Y")
            ]

    def labels(self) -> NDArray[Any]:
        """The labels of the samples that take part, for contenders that keep them in memory."""
        with open_file(self.path) as file:
            labels: NDArray[Any] = file["Y"][: self.num_samples]
            return labels

    def filters(self) -> list[int]:
        """The numbers of the filters of `X`, as HDF5 has them registered."""
        with open_file(self.path) as file:
            plist = file["X"].id.get_create_plist()
            return [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]


@dataclass(frozen=True)
class Contender:
    """One who takes part."""

    module: str
    """Where in this package its `open_feed` is."""
    settings: str
    """How it is set up, for people."""
    needs: tuple[str, ...] = ()
    """What must be importable, beyond what the package itself needs."""
    variant: str = ""
    """Which contender of a module that has several."""
    is_copy: bool = False
    """Whether it works on a copy in another format."""
    has_environment: bool = False
    """Whether it runs in an environment of its own, because of what it needs."""

    def why_not(self, job: Job) -> str | None:
        """Why it cannot take part, and what to do about it; None: it can."""
        for name in self.needs:
            if importlib.util.find_spec(name) is None:
                return f"{name} is not installed: {INSTALL}"
            try:
                importlib.import_module(name)
            except Exception as error:  # an installation that is broken
                last = [str(error).strip(), *str(error).strip().splitlines()][-1]
                return f"{name} cannot be imported: {type(error).__name__}: {last}"
        module = self._module()
        if not hasattr(module, "why_not"):
            return None
        reason: str | None = module.why_not(*self._arguments(job))
        return reason

    @contextmanager
    def open_feed(self, job: Job) -> Iterator[Feed]:
        """Opens it for a job."""
        with self._module().open_feed(*self._arguments(job)) as feed:
            yield feed

    def _arguments(self, job: Job) -> tuple[Any, ...]:
        return (job, self.variant) if self.variant else (job,)

    def _module(self) -> Any:
        return importlib.import_module(f".{self.module}", __name__)


CONTENDERS = {
    "h5video_data": Contender("ours", "defaults; exact shuffle", variant="exact"),
    "h5video_data-blocks": Contender("ours", 'shuffle="blocks"', variant="blocks"),
    "plain": Contender("plain", "from_generator, no prefetch", variant="bare"),
    "plain-prefetch": Contender("plain", "from_generator, prefetch(AUTOTUNE)", variant="prefetch"),
    "plain-keras": Contender("through_keras", "the generator given to fit", variant="generator"),
    "read_direct": Contender("read_direct", "from_generator, prefetch(AUTOTUNE)"),
    "pydataset": Contender("through_keras", "a worker thread a processor", variant="pydataset"),
    "tfrecord": Contender("tfrecord", "shuffle(256), interleave and map AUTOTUNE", is_copy=True),
    "torch": Contender("torch_loader", "a worker process a processor", ("torch",)),
    "grain": Contender("grain_loader", "16 reading threads, no worker processes", ("grain",)),
    "zea": Contender("zea_reader", "a sorted batch a read, prefetch(AUTOTUNE)", ("zea",)),
    "tensorstore": Contender(
        "tensorstore_copy", "zarr, a sample a chunk", ("tensorstore",), is_copy=True
    ),
    "tfio": Contender(
        "tensorflow_io",
        "its raw op, 8 parallel calls, TensorFlow 2.16",
        ("tensorflow_io",),
        has_environment=True,
    ),
}


def parse(name: str) -> tuple[str, int | None]:
    """Splits `NAME` or `NAME:WORKERS`.

    Raises:
        ValueError: There is no such contender, or that is no number.
    """
    contender, colon, workers = name.partition(":")
    if contender not in CONTENDERS or (colon and not workers.isdigit()):
        raise ValueError(
            f"a contender is NAME or NAME:WORKERS, with a name of {', '.join(CONTENDERS)}. "
            f"Received: {name!r}"
        )
    return contender, int(workers) if colon else None


def num_processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))
