"""Rivals of more than one benchmark: Lance, and feeds by torch's DataLoader.

A Lance dataset keeps each frame as a row of JPEG bytes. Random rows are taken a batch at a time, as
its documentation advises: sorted, each once, only those that are needed. Lance takes bytes, it does
not decode them: the decoder is the one that this package uses, and runs in threads that make whole
batches, or in the workers of a DataLoader, which take batches by `__getitems__` as Lance's own
`SafeLanceDataset` does.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from simplejpeg import decode_jpeg

from .measure import drain

# Rows that are written at once.
ROWS_PER_WRITE = 1024

# Batches a thread has to make while another one is in use.
READ_AHEAD = 2


def fastest(feeds: Mapping[str, Callable[[], Any]]) -> tuple[str, Callable[[], float]]:
    """Chooses among the settings of a contender.

    Args:
        feeds: What makes the batches of an epoch, by names.

    Returns:
        The name of the fastest one in two turns each, and a function that measures it again.
    """
    name = max(feeds, key=lambda name: max(drain(feeds[name]()) for _ in range(2)))
    feed = feeds[name]
    return name, lambda: drain(feed())


class Order:
    """Random order of an epoch, which can be ended: a DataLoader makes no further batches then."""

    def __init__(self, length: int) -> None:
        self._length = length
        self.is_ended = False

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        numbers = np.random.default_rng().permutation(self._length).tolist()
        return itertools.takewhile(lambda _: not self.is_ended, numbers)


class WorkerEpochs:
    """Epochs of a DataLoader whose workers live on, and rest once an epoch is broken off.

    Without an end, they would go on to make batches while another contender has its turn.
    """

    def __init__(self, loader: Any, order: Order) -> None:
        self._loader, self._order = loader, order

    def __iter__(self) -> Iterator[Any]:
        self._order.is_ended = False
        batches = iter(self._loader)
        try:
            yield from batches
        finally:
            self._order.is_ended = True
            for _ in batches:
                pass


def data_loader(dataset: Any, batch_size: int, workers: int, **options: Any) -> WorkerEpochs | None:
    """Returns shuffled batches of a DataLoader with spawned workers; None: no torch."""
    try:
        from torch.utils.data import DataLoader
    except ImportError:
        return None
    order = Order(len(dataset))
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=order,
        drop_last=True,
        num_workers=workers,
        multiprocessing_context="spawn",
        persistent_workers=True,
        **options,
    )
    return WorkerEpochs(loader, order)


def has_lance() -> bool:
    """Returns whether Lance is installed."""
    try:
        import lance  # noqa: F401
    except ImportError:
        return False
    return True


def write_lance(path: str | Path, pictures: Iterable[bytes]) -> str:
    """Writes encoded pictures as a Lance dataset, in its newest stable format."""
    import lance
    import pyarrow as pa

    schema, rest = pa.schema([("frame", pa.binary())]), iter(pictures)
    groups = iter(lambda: list(itertools.islice(rest, ROWS_PER_WRITE)), [])
    batches = (pa.record_batch([pa.array(g, "binary")], schema=schema) for g in groups)
    lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches), str(path))
    return str(path)


def files_of(folder: str) -> list[Path]:
    """Returns the files of a folder, and of those inside of it."""
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def folder_bytes(folder: str) -> int:
    """Returns the bytes of a folder's files."""
    return sum(path.stat().st_size for path in files_of(folder))


class LanceSamples:
    """Samples of some rows each, as a dataset of torch's, too: each worker opens Lance's.

    Args:
        path: Lance dataset.
        rows: Rows of each sample, int64 (samples,) or (samples, frames).
        frame_shape: Shape of a picture, uint8.
    """

    def __init__(self, path: str, rows: NDArray[np.int64], frame_shape: tuple[int, ...]) -> None:
        self._path, self._rows, self._frame_shape = path, rows, frame_shape
        self._dataset: Any = None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, numbers: Any) -> NDArray[np.uint8]:
        """Returns a batch, uint8 (len(numbers), [frames,] rows, columns, channels)."""
        if self._dataset is None:
            import lance

            self._dataset = lance.dataset(self._path)
        rows, places = np.unique(self._rows[numbers], return_inverse=True)
        taken = self._dataset.take(rows, columns=["frame"])["frame"].combine_chunks()
        batch = np.empty((*self._rows[numbers].shape, *self._frame_shape), np.uint8)
        frames = batch.reshape(-1, *self._frame_shape)
        for frame, place in zip(frames, places.ravel().tolist(), strict=True):
            picture = np.frombuffer(taken[place].as_buffer(), np.uint8)
            decode_jpeg(picture, buffer=frame)
        return batch


def by_threads(samples: LanceSamples, batch_size: int, num_threads: int) -> Iterator[Any]:
    """Yields an epoch of shuffled batches, each made by a thread, some ahead."""
    order = np.random.default_rng().permutation(len(samples))
    making: deque[Future[Any]] = deque()
    pool = ThreadPoolExecutor(num_threads)
    try:
        for begin in range(0, len(order) - batch_size + 1, batch_size):
            making.append(pool.submit(samples.__getitems__, order[begin : begin + batch_size]))
            if len(making) >= READ_AHEAD * num_threads:
                yield making.popleft().result()
        for batch in making:
            yield batch.result()
    finally:
        pool.shutdown(cancel_futures=True)


def as_tensor(array: NDArray[Any]) -> Any:
    """Makes a tensor of an array: workers send tensors by shared memory."""
    import torch

    return torch.from_numpy(array)


def lance(samples: LanceSamples, batch_size: int, workers: int) -> tuple[str, Callable[[], float]]:
    """Returns the fastest of a few ways to read a Lance dataset, as `fastest` does.

    Args:
        samples: What to read.
        batch_size: Samples a batch.
        workers: Threads, or processes of torch's; twice as many threads are tried, too.
    """
    feeds: dict[str, Callable[[], Any]] = {
        f"lance, {count} threads": functools.partial(by_threads, samples, batch_size, count)
        for count in (workers, 2 * workers)
    }
    by_workers = data_loader(samples, batch_size, workers, collate_fn=as_tensor)
    if by_workers is not None:
        feeds["lance, torch"] = by_workers.__iter__
    return fastest(feeds)


def check_lance(samples: LanceSamples, number: int, pictures: Sequence[bytes]) -> None:
    """Compares a sample with its pictures."""
    frames = samples.__getitems__([number])[0].reshape(len(pictures), -1)
    for frame, picture in zip(frames, pictures, strict=True):
        if (frame != imagecodecs.jpeg8_decode(picture).ravel()).any():
            raise ValueError(f"sample {number} of the Lance dataset is not that of the file")
