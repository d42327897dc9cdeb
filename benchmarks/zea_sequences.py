"""Measures zea's own loader on zea's own files, and this package on the same ones.

    python -m benchmarks.zea_sequences

Needs zea and a backend of Keras, best in an environment of their own; this package runs beside it,
without TensorFlow. zea writes the files: a sequence of frames each, a frame a chunk, Blosc with
zstd. Two things are measured, in turns; the first round warms up, and medians are reported.

`windows`: 16 frames of (256, 256) uint8 that follow each other, in random order over all files, in
batches of 16, by `zea.Dataloader` with the fastest of a few numbers of threads. Such a window has 1
MiB, from which on zea reads chunks by itself; smaller ones, and frames with a distance between them
(`--frames`, `--stride`), it leaves to h5py.

`chunks`: 201 MB in 16 chunks at once, the measurement that zea's reader of chunks reports: float32
decibels with light noise. This package reads them as one batch; an epoch has no other, so nothing
is read ahead.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import h5video_data as h5v

from .facts import num_processors, warm_cache
from .measure import DRAINED_SECONDS, drain, in_turns, spread
from .report import megabytes
from .rivals import fastest
from .video_set import make_parser, positive_integer, temporary_folder

# As zea names the images of a file, and where they lie in it.
KEY, DATASET = "data/image/values", "tracks/track_0/data/image/values"
FRAME, LENGTHS, BATCH_SIZE = (256, 256), (60, 120), 16
# One index deep: zea cuts larger chunks along this axis only.
NUM_CHUNKS, CHUNK = 16, (1, 1536, 2048)
EPOCHS = itertools.count(1000, 1000)


def write(path: Path, images: NDArray[Any]) -> str:
    """Writes a file as zea does."""
    import zea

    with zea.log.set_level("WARNING"):
        zea.File.create(path, data={"image": {"values": images}}, ignore_warnings=True)
    return str(path)


def make_sequences(folder: Path, num_files: int) -> list[str]:
    """Writes sequences of several lengths: gradients that drift, with light noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.ogrid[: FRAME[0], : FRAME[1]]
    paths = []
    for number, length in enumerate(rng.integers(LENGTHS[0], LENGTHS[1] + 1, num_files).tolist()):
        t = np.arange(length)[:, np.newaxis, np.newaxis]
        frames = (rows + columns // 2 + 7 * number + 3 * t).astype(np.uint8)
        frames += rng.integers(0, 4, frames.shape, np.uint8)
        paths.append(write(folder / f"sequence_{number}.hdf5", frames))
    return paths


def make_chunks(folder: Path) -> str:
    """Writes one file of large frames: decibels from -60 to 0, in steps of a quarter."""
    rng = np.random.default_rng(0)
    depth = np.linspace(0, -50, CHUNK[1], dtype=np.float32)[:, np.newaxis]
    noise = rng.integers(-20, 21, (NUM_CHUNKS, *CHUNK), np.int8)
    return write(folder / "chunks.hdf5", np.clip(np.round(4 * depth) + noise, -240, 0) / 4)


def windows(paths: list[str], options: Any) -> dict[str, Callable[[], float]]:
    """Returns what takes turns on windows, after a comparison of the first batches."""
    import zea

    def theirs(num_threads: int, shuffle: bool = True) -> Any:
        return zea.Dataloader(
            paths,
            KEY,
            batch_size=BATCH_SIZE,
            n_frames=options.frames,
            frame_index_stride=options.stride,
            frame_axis=0,
            overlapping_blocks=True,
            shuffle=shuffle,
            seed=0,
            drop_remainder=True,
            num_threads=num_threads,
            prefetch_buffer_size=2 * num_threads,
            convert_to_tensor=False,
        )

    def ours(shuffle: Any = "exact") -> h5v.VideoLoader:
        return h5v.VideoLoader(
            paths, x=DATASET, y=None, windows=h5v.Windows(options.frames, stride=options.stride),
            batch_size=BATCH_SIZE, shuffle=shuffle, seed=0, drop_remainder=True,
        )  # fmt: skip

    # HDF5 opens a file twice only with the same flags of locking, which zea sets otherwise: this
    # package, which does not keep its files open in HDF5, comes first.
    loader = ours()
    with ours(shuffle=False) as in_order:
        first = next(iter(in_order.batches()))[2][0]
    with theirs(1, shuffle=False) as in_order:
        compare(first, next(iter(in_order)))
    counts = {options.threads, 2 * options.threads, 16}
    feeds = {f"zea, {count} threads": theirs(count).__iter__ for count in sorted(counts)}
    name, measure = fastest(feeds)
    return {"h5video_data": lambda: drain(batches(loader)), name: measure}


def batches(loader: h5v.VideoLoader) -> Any:
    """Returns the arrays of an epoch of which nothing was read ahead."""
    loader.set_epoch(next(EPOCHS))
    return (arrays[0] for _, _, arrays in loader.batches())


def chunks(path: str) -> dict[str, Callable[[], float]]:
    """Returns what takes turns on large chunks, after a comparison."""
    import zea

    loader = h5v.VideoLoader(path, x=DATASET, y=None, batch_size=NUM_CHUNKS, shuffle=False)
    dataset = zea.File(path).dataset(KEY)

    def timed(read: Callable[[], Any]) -> float:
        nbytes, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < DRAINED_SECONDS:
            nbytes += read().nbytes
        return nbytes / (time.perf_counter() - begin)

    def ours() -> Any:
        return next(iter(batches(loader)))

    def theirs() -> Any:
        return dataset[0:NUM_CHUNKS]

    compare(ours(), theirs())
    return {"h5video_data": lambda: timed(ours), "zea": lambda: timed(theirs)}


def compare(ours: NDArray[Any], theirs: NDArray[Any]) -> None:
    """Raises ValueError if two batches differ."""
    if not np.array_equal(ours, theirs):
        raise ValueError(f"batches differ. Received: {ours.shape}, {theirs.shape}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and prints a row for each contender."""
    parser = make_parser(
        "benchmarks.zea_sequences", __doc__, ["windows", "chunks"], ["windows", "chunks"]
    )
    parser.add_argument("--files", type=positive_integer, default=200)
    parser.add_argument("--frames", type=positive_integer, default=16)
    parser.add_argument("--stride", type=positive_integer, default=1)
    parser.add_argument("--rounds", type=positive_integer, default=5)
    parser.add_argument("--threads", type=positive_integer, default=num_processors())
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print("bytes of frames per second in MB/s: median ± half the range of the middle half")
    with temporary_folder(options) as folder:
        for layout in options.layouts:
            if layout == "windows":
                paths = make_sequences(folder, options.files)
                measures = windows(paths, options)
            else:
                paths = [make_chunks(folder)]
                measures = chunks(paths[0])
            for path in paths:
                warm_cache(path)
            found = {name: np.array(v) for name, v in in_turns(measures, options.rounds).items()}
            size = sum(map(os.path.getsize, paths)) / 1e6
            print(f"{layout}: {len(paths)} files, {size:,.0f} MB", flush=True)
            for name, speeds in found.items():
                ratio = float(np.median(found["h5video_data"] / speeds))
                print(f"  {name:16}{megabytes(spread(speeds)):>18}   h5video_data x {ratio:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
