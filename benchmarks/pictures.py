"""Measures encoded pictures: this package, other ways to read the same bytes, and the limit.

    python -m benchmarks.pictures --layouts jpeg jpeg-vlen

Rows of `frames` are JPEG files of (224, 224, 3) at quality 95, in random order, in batches of 64:
byte strings of one length (`jpeg`), or of variable length (`jpeg-vlen`). The limit is the same
decoder on the same bytes, from memory by all threads. `tfrecord` decodes them by
`tf.io.decode_jpeg` out of a TFRecord, in the order of the file; `torch` by Pillow in the workers of
a DataLoader, from the same HDF5 file, if torch and Pillow are installed; `lance` takes them from
rows of a Lance dataset and decodes them as the limit does, in the fastest of a few ways, if pylance
is installed. All take turns of some seconds; the first round warms up, and medians are reported.
"""

from __future__ import annotations

import io
import itertools
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from simplejpeg import decode_jpeg

import h5video_data as h5v
from h5video_data.reading.memory_budget import default_read_ahead_bytes
from h5video_data.storage.pictures.codecs import encode_picture

from . import rivals
from .facts import num_processors, warm_cache
from .measure import drain, drain_epochs, in_turns, spread
from .report import megabytes
from .video_set import make_parser, positive_integer, temporary_folder

FRAME = (224, 224, 3)
BATCH_SIZE = 64
QUALITY = 95
LAYOUTS = ("jpeg", "jpeg-vlen")


def make_pictures(num_pictures: int) -> list[bytes]:
    """Returns JPEG files: smooth gradients that drift, edges, and light noise."""
    rng = np.random.default_rng(0)
    rows, columns, channels = np.ogrid[: FRAME[0], : FRAME[1], : FRAME[2]]
    found = []
    for number in range(num_pictures):
        still = (rows + columns // 2 + 40 * channels + 3 * number).astype(np.uint8)
        left, top = rng.integers(0, FRAME[0] // 2, 2)
        still[top : top + FRAME[0] // 3, left : left + FRAME[1] // 3] += np.uint8(90)
        found.append(encode_picture(still + rng.integers(0, 6, FRAME, np.uint8), "jpeg", QUALITY))
    return found


def make_file(folder: Path, layout: str, pictures: Sequence[bytes]) -> str:
    """Writes an HDF5 file whose rows are these pictures."""
    path = folder / f"{layout}.h5"
    with h5py.File(path, "w") as file:
        if layout == "jpeg":
            file["frames"] = np.array(pictures, "S")
        else:
            rows = file.create_dataset("frames", len(pictures), h5py.vlen_dtype(np.uint8))
            for number, picture in enumerate(pictures):
                rows[number] = np.frombuffer(picture, np.uint8)
    return str(path)


def limit(pictures: Sequence[bytes]) -> float:
    """Bytes of pixels per second of the decoder alone."""
    num_threads, nbytes = num_processors(), int(np.prod(FRAME))
    order = np.random.default_rng(0).permutation(len(pictures)).tolist()
    num_buffers = default_read_ahead_bytes(BATCH_SIZE * nbytes, num_threads) // nbytes
    memory = np.ones((num_buffers, *FRAME), np.uint8)

    def work(thread: int) -> None:
        for number in range(thread, len(order), num_threads):
            decode_jpeg(pictures[order[number]], buffer=memory[number % len(memory)])

    with ThreadPoolExecutor(num_threads) as pool:
        begin = time.perf_counter()
        list(pool.map(work, range(num_threads)))
        return len(order) * nbytes / (time.perf_counter() - begin)


def write_tfrecord(folder: Path, pictures: Sequence[bytes]) -> str:
    """Writes the pictures as a TFRecord of examples."""
    import tensorflow as tf

    path = str(folder / "pictures.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for picture in pictures:
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[picture]))
            features = tf.train.Features(feature={"frame": feature})
            writer.write(tf.train.Example(features=features).SerializeToString())
    return path


def tfrecord(path: str) -> Any:
    """Returns batches of a TFRecord's pictures, by parallel map stages as TensorFlow advises."""
    import tensorflow as tf

    def decode(example: Any) -> Any:
        parsed = tf.io.parse_single_example(
            example, {"frame": tf.io.FixedLenFeature([], tf.string)}
        )
        return tf.ensure_shape(tf.io.decode_jpeg(parsed["frame"]), FRAME)

    dataset = tf.data.TFRecordDataset(path).map(decode, tf.data.AUTOTUNE)
    return dataset.batch(BATCH_SIZE, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


class Decoded:
    """The pictures as a dataset of torch's: h5py reads, and Pillow decodes."""

    def __init__(self, path: str, num_pictures: int) -> None:
        self._path, self._num_pictures = path, num_pictures
        self._rows: Any = None

    def __len__(self) -> int:
        return self._num_pictures

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        from PIL import Image

        if self._rows is None:
            self._rows = h5py.File(self._path, "r")["frames"]
        return np.array(Image.open(io.BytesIO(bytes(self._rows[number]))))


def torch_feed(path: str, num_pictures: int, workers: int) -> Any:
    """Returns a DataLoader, or None if torch or Pillow is not installed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        return None
    return rivals.data_loader(Decoded(path, num_pictures), BATCH_SIZE, workers)


def lance_rows(folder: Path, pictures: Sequence[bytes]) -> rivals.LanceSamples | None:
    """Writes the pictures as a Lance dataset; None: no Lance."""
    if not rivals.has_lance():
        return None
    path = rivals.write_lance(folder / "pictures.lance", pictures)
    samples = rivals.LanceSamples(path, np.arange(len(pictures)), FRAME)
    for number in (0, len(pictures) - 1):
        rivals.check_lance(samples, number, [pictures[number]])
    print(f"Lance: {rivals.folder_bytes(path) / 1e6:,.0f} MB", flush=True)
    return samples


def check(loader: h5v.VideoLoader, pictures: Sequence[bytes]) -> None:
    """Compares a batch with what the decoder makes of the bytes that were written."""
    _, numbers, arrays = next(iter(loader.batches()))
    for number, picture in zip(numbers.tolist(), arrays[0], strict=True):
        if (picture != imagecodecs.jpeg8_decode(pictures[number])).any():
            raise ValueError(f"picture {number} is not that of the file")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and prints a row for each layout."""
    parser = make_parser("benchmarks.pictures", __doc__, list(LAYOUTS), LAYOUTS)
    parser.add_argument("--pictures", type=positive_integer, default=8000)
    parser.add_argument("--rounds", type=positive_integer, default=5)
    parser.add_argument("--workers", type=positive_integer, default=num_processors())
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print("bytes of pixels per second in MB/s: median ± half the range of the middle half")
    pictures, batch_bytes = make_pictures(options.pictures), BATCH_SIZE * int(np.prod(FRAME))
    with temporary_folder(options) as folder:
        records = write_tfrecord(folder, pictures)
        record = tfrecord(records)
        print(f"TFRecord: {os.path.getsize(records) / 1e6:,.0f} MB")
        rows = lance_rows(folder, pictures)
        for layout in options.layouts:
            path = make_file(folder, layout, pictures)
            with h5v.VideoLoader(
                path, x="frames", y=None, batch_size=BATCH_SIZE, drop_remainder=True, seed=0
            ) as loader:
                check(loader, pictures)
                warm_cache(path)
                ours, epochs = loader.dataset(), itertools.count(1000, 1000)

                def turn() -> float:
                    loader.set_epoch(next(epochs))  # noqa: B023 - nothing was read ahead before
                    return drain_epochs(ours, batch_bytes)  # noqa: B023

                measures: dict[str, Callable[[], float]] = {
                    "limit": lambda: limit(pictures),
                    "h5video_data": turn,
                    "tfrecord": lambda: drain_epochs(record, batch_bytes),
                }
                feed = torch_feed(path, len(pictures), options.workers)
                if feed is not None:
                    measures["torch"] = lambda: drain(feed)  # noqa: B023
                if rows is not None:
                    name, measure = rivals.lance(rows, BATCH_SIZE, options.workers)
                    measures[name] = measure
                found = {
                    name: np.array(v) for name, v in in_turns(measures, options.rounds).items()
                }
            size = sum(map(len, pictures)) / len(pictures)
            print(
                f"{layout}: {os.path.getsize(path) / 1e6:,.0f} MB, {len(pictures)} pictures of "
                f"{size:,.0f} bytes",
                flush=True,
            )
            for name, speeds in found.items():
                ratio = float(np.median(found["h5video_data"] / speeds))
                print(f"  {name:16}{megabytes(spread(speeds)):>18}   h5video_data x {ratio:.2f}")
            os.unlink(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
