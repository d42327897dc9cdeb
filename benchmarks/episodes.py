"""Measures windows of recordings: this package, h5py slices, and the limit of the machine.

    python -m benchmarks.episodes --layouts contiguous chunked gzip lzf blosc many

Recordings of 120 to 480 frames of (224, 224, 3) uint8 lie end to end, `pixels` with `ep_offset`
beside it. Samples are windows of 4 frames, 5 rows apart, in random order, in batches of 64: the
benchmark of stable-worldmodel. The limit is positioned reads of the same frames by all threads, or
decoding of their chunks from memory by the codec alone. `h5py slices` reads `pixels[i:j:5]` of
each window, in a generator; `torch` does so in the workers of a DataLoader, if torch is installed.
`lance` decodes the same frames out of a Lance dataset, whose rows are JPEG files of quality 95 (it
loses what JPEG loses), in the fastest of a few ways, if pylance is installed. All take turns of
some seconds; the first round warms up, and medians are reported; with `--cold`, the page cache is
dropped before each turn. For chunks of many frames (`many`), how often each is decoded in an epoch
of all windows is counted, too.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

import h5video_data as h5v
from h5video_data.reading.memory_budget import default_read_ahead_bytes
from h5video_data.storage.layout import describe
from h5video_data.storage.pictures.codecs import encode_picture

from . import rivals
from .facts import drop_cache, num_processors, open_file, warm_cache
from .limits import CODECS
from .measure import drain, drain_epochs, in_turns, spread
from .report import megabytes
from .video_set import make_parser, positive_integer, temporary_folder

FRAME = (224, 224, 3)
LENGTHS = (120, 480)
NUM_FRAMES, STRIDE, BATCH_SIZE = 4, 5, 64
SPAN = (NUM_FRAMES - 1) * STRIDE + 1
# Decodes are counted with so many episodes, whose frames take 0.4 GB.
COUNTED_EPISODES = 8

LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunked": {"chunks": (1, *FRAME)},
    "gzip": {"chunks": (1, *FRAME), "compression": "gzip", "compression_opts": 4},
    "lzf": {"chunks": (1, *FRAME), "compression": "lzf"},
    "blosc": {
        "chunks": (1, *FRAME),
        **hdf5plugin.Blosc(cname="zstd", clevel=5, shuffle=hdf5plugin.Blosc.BITSHUFFLE),
    },
    "many": {"chunks": (16, *FRAME), "compression": "lzf"},
}


def make_episodes(folder: Path, layout: str, num_episodes: int) -> str:
    """Writes recordings end to end: smooth gradients that drift, with light noise."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(LENGTHS[0], LENGTHS[1] + 1, num_episodes)
    path = folder / f"{layout}.h5"
    rows, columns, channels = np.ogrid[: FRAME[0], : FRAME[1], : FRAME[2]]
    with h5py.File(path, "w") as file:
        shape = (int(lengths.sum()), *FRAME)
        pixels = file.create_dataset("pixels", shape, np.uint8, **LAYOUTS[layout])
        begin = 0
        for number, length in enumerate(lengths.tolist()):
            t = np.arange(length)[:, np.newaxis, np.newaxis, np.newaxis]
            still = rows + columns // 2 + 40 * channels + 7 * number
            noise = rng.integers(0, 4, (length, *FRAME), np.uint8)
            pixels[begin : begin + length] = (still + 3 * t).astype(np.uint8) + noise
            begin += length
        file["ep_offset"] = np.cumsum(lengths) - lengths
        file["ep_len"] = lengths
    return str(path)


def window_starts(path: str) -> NDArray[np.int64]:
    """Returns the first row of each window, int64 (windows,)."""
    with open_file(path) as file:
        offsets, lengths = file["ep_offset"][:], file["ep_len"][:]
    starts = [o + np.arange(n - SPAN + 1) for o, n in zip(offsets, lengths, strict=True)]
    return np.concatenate(starts)


def shuffled_batches(starts: NDArray[np.int64], epoch: int) -> Iterator[NDArray[np.int64]]:
    """Yields the first rows of the windows of each batch."""
    order = starts[np.random.default_rng(epoch).permutation(len(starts))]
    for begin in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
        yield order[begin : begin + BATCH_SIZE]


def limit(path: str) -> float:
    """Bytes of frames per second: of positioned reads, or of the codec alone."""
    num_threads, frame_bytes = num_processors(), int(np.prod(FRAME))
    starts = np.concatenate([*shuffled_batches(window_starts(path), 0)])
    count = min(len(starts), (2 << 30) // (NUM_FRAMES * frame_bytes))
    rows = (starts[:count, np.newaxis] + STRIDE * np.arange(NUM_FRAMES)).ravel()
    with open_file(path) as file:
        pixels = file["pixels"]
        filters = describe(pixels).filters
        if pixels.chunks is None:
            begin = pixels.id.get_offset()
            ranges = [(begin + row * frame_bytes, frame_bytes) for row in rows.tolist()]
        elif pixels.chunks[0] == 1:
            table: dict[int, tuple[int, int]] = {}
            pixels.id.chunk_iter(
                lambda info: table.update({info.chunk_offset[0]: (info.byte_offset, info.size)})
            )
            ranges = [table[row] for row in rows.tolist()]
        else:
            raise ValueError("the limit of chunks of many frames is not known")
    codec = CODECS[filters[0].id] if filters else None
    num_buffers = default_read_ahead_bytes(BATCH_SIZE * NUM_FRAMES * frame_bytes, num_threads)
    memory = np.ones((num_buffers // frame_bytes, frame_bytes), np.uint8)
    fd = os.open(path, os.O_RDONLY)
    if codec is not None:
        ranges = ranges[: 8 * (len(ranges) // 64)]
    chunks = [os.pread(fd, size, offset) for offset, size in ranges] if codec else []

    def work(thread: int) -> None:
        for number in range(thread, len(ranges), num_threads):
            target = memory[number % len(memory)]
            if codec is not None:
                codec(chunks[number], out=target)
            else:
                os.preadv(fd, [target.data], ranges[number][0])

    with ThreadPoolExecutor(num_threads) as pool:
        begin_time = time.perf_counter()
        list(pool.map(work, range(num_threads)))
        seconds = time.perf_counter() - begin_time
    os.close(fd)
    return len(ranges) * frame_bytes / seconds


def slices(path: str) -> Iterator[NDArray[np.uint8]]:
    """Yields batches as they are commonly read: a slice of h5py's for each window."""
    starts = window_starts(path)
    with h5py.File(path, "r") as file:
        pixels = file["pixels"]
        for batch in shuffled_batches(starts, 0):
            yield np.stack([pixels[start : start + SPAN : STRIDE] for start in batch])


class Slices:
    """The windows as a dataset of torch's: each worker opens the file."""

    def __init__(self, path: str) -> None:
        self._path, self._starts = path, window_starts(path)
        self._pixels: Any = None

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        if self._pixels is None:
            self._pixels = h5py.File(self._path, "r")["pixels"]
        start = self._starts[number]
        window: NDArray[np.uint8] = self._pixels[start : start + SPAN : STRIDE]
        return window


def encoded_frames(path: str) -> Iterator[bytes]:
    """Yields the frames of a file as JPEG files."""
    with open_file(path) as file, ThreadPoolExecutor(num_processors()) as pool:
        pixels = file["pixels"]
        for begin in range(0, len(pixels), rivals.ROWS_PER_WRITE):
            yield from pool.map(encode_picture, pixels[begin : begin + rivals.ROWS_PER_WRITE])


def lance_windows(path: str, folder: Path) -> rivals.LanceSamples | None:
    """Writes the frames of a file as a Lance dataset, and returns its windows; None: no Lance."""
    if not rivals.has_lance():
        return None
    copy = rivals.write_lance(folder / "episodes.lance", encoded_frames(path))
    rows = window_starts(path)[:, np.newaxis] + STRIDE * np.arange(NUM_FRAMES)
    windows = rivals.LanceSamples(copy, rows, FRAME)
    for number in (0, len(rows) - 1):
        with open_file(path) as file:
            frames = file["pixels"][rows[number][0] : rows[number][-1] + 1 : STRIDE]
        rivals.check_lance(windows, number, [encode_picture(frame) for frame in frames])
    size = rivals.folder_bytes(copy) / 1e6
    print(f"Lance: {size:,.0f} MB, JPEG of quality 95, with loss", flush=True)
    return windows


def measures_of(
    path: str, loader: h5v.VideoLoader, workers: int, windows: rivals.LanceSamples | None
) -> dict[str, Callable[[], float]]:
    """Returns what takes turns; `windows`: those of a Lance dataset."""
    dataset: Any = loader.dataset()
    step_bytes = BATCH_SIZE * NUM_FRAMES * int(np.prod(FRAME))
    num_epochs = 0

    def ours() -> float:
        nonlocal num_epochs
        num_epochs += 1
        loader.set_epoch(1000 * num_epochs)  # nothing that was read ahead in the turn before
        return drain_epochs(dataset, step_bytes)

    found: dict[str, Callable[[], float]] = {"h5video_data": ours}
    found["h5py slices"] = lambda: drain(slices(path))
    feed = rivals.data_loader(Slices(path), BATCH_SIZE, workers)
    if feed is not None:
        found["torch"] = lambda: drain(feed)
    if windows is not None:
        name, measure = rivals.lance(windows, BATCH_SIZE, workers)
        found[name] = measure
    return found


def cold(measure: Callable[[], float], files: list[Path]) -> Callable[[], float]:
    """Returns a function that drops files from the page cache before it measures."""

    def turn() -> float:
        drop_cache(files)
        return measure()

    return turn


def check(path: str, loader: h5v.VideoLoader) -> None:
    """Compares the windows of some batches with those that h5py reads."""
    starts = window_starts(path)
    with h5py.File(path, "r") as file:
        for step, (_, numbers, arrays) in enumerate(loader.batches()):
            for number, window in zip(numbers.tolist(), arrays[0], strict=True):
                start = starts[number]
                if not np.array_equal(window, file["pixels"][start : start + SPAN : STRIDE]):
                    raise ValueError(f"window {number} is not that of the file")
            if step == 1:
                return


def decodes_per_chunk(path: str) -> float:
    """Counts how often a chunk is decoded in an epoch, with memory for all frames.

    Windows are of frames that follow each other, at every row, in exactly random order.
    """
    with open_file(path) as file:
        num_chunks, nbytes = file["pixels"].id.get_num_chunks(), file["pixels"].nbytes
    windows = h5v.Windows(NUM_FRAMES, bounds="ep_offset")
    with h5v.VideoLoader(
        path, x="pixels", y=None, windows=windows, batch_size=BATCH_SIZE, seed=0,
        read_ahead_bytes=2 * nbytes + (1 << 30),
    ) as loader:  # fmt: skip
        for _ in loader:
            pass
        return float(loader.stats.num_chunks / num_chunks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and prints a row for each layout."""
    parser = make_parser("benchmarks.episodes", __doc__, ["contiguous", "chunked", "gzip", "lzf"])
    parser.add_argument("--episodes", type=positive_integer, default=200)
    parser.add_argument("--rounds", type=positive_integer, default=5)
    parser.add_argument("--workers", type=positive_integer, default=num_processors())
    parser.add_argument("--cold", action="store_true", help="drop the page cache before each turn")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print("bytes of frames per second in MB/s: median ± half the range of the middle half")
    with temporary_folder(options) as folder:
        lance: rivals.LanceSamples | None = None
        for layout in options.layouts:
            path = make_episodes(folder, layout, options.episodes)
            # Its frames are those of every layout.
            lance = lance or lance_windows(path, folder)
            windows = h5v.Windows(NUM_FRAMES, stride=STRIDE, bounds="ep_offset")
            with h5v.VideoLoader(
                path, x="pixels", y=None, windows=windows, batch_size=BATCH_SIZE,
                drop_remainder=True, seed=0,
            ) as loader:  # fmt: skip
                check(path, loader)
                warm_cache(path)
                measures = measures_of(path, loader, options.workers, lance)
                if layout != "many":
                    measures = {"limit": lambda: limit(path), **measures}  # noqa: B023
                if options.cold:
                    files = rivals.files_of(str(folder))
                    measures = {name: cold(m, files) for name, m in measures.items()}
                found = {
                    name: np.array(v) for name, v in in_turns(measures, options.rounds).items()
                }
            ours = found["h5video_data"]
            size = os.path.getsize(path) / 1e6
            print(f"{layout}: {size:,.0f} MB, {loader.num_samples} windows", flush=True)
            for name, speeds in found.items():
                ratio = float(np.median(ours / speeds))
                print(f"  {name:16}{megabytes(spread(speeds)):>18}   h5video_data x {ratio:.2f}")
            os.unlink(path)
            if layout == "many":
                few = make_episodes(folder, layout, min(options.episodes, COUNTED_EPISODES))
                print(f"  decodes a chunk an epoch, at hop 1: {decodes_per_chunk(few):.2f}")
                os.unlink(few)
    return 0


if __name__ == "__main__":
    sys.exit(main())
