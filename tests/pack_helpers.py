"""What the tests of pack share with others."""

from __future__ import annotations

import av
import h5py
import numpy as np

STEP = 6  # the brightness of frame n is n * STEP: lossy codecs and 8-bit palettes keep it apart


LOSSLESS = ("ffv1", "bgr0")


def write_video(
    path, pictures, codec=LOSSLESS[0], pix_fmt=LOSSLESS[1], rate=25, options=None, metadata=None
):
    """Writes (rows, columns, 3) uint8 pictures; `options` and `metadata` are the container's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def numbered(count, rows=16, columns=16):
    return [np.full((rows, columns, 3), n * STEP, np.uint8) for n in range(count)]


def noisy(count, rows=48, columns=64):
    """Numbered pictures that do not compress: cutting a file's bytes cuts frames off."""
    noise = np.random.default_rng(0).integers(0, 255, (count, rows // 2, columns, 3), np.uint8)
    below = numbered(count, rows - rows // 2, columns)
    return [np.concatenate([*pair]) for pair in zip(noise, below, strict=True)]


def numbers(x):
    """The frame numbers, (samples, frames), that the brightness of `x` tells."""
    return np.rint(x.mean(axis=(2, 3, 4)) / STEP).astype(int).tolist()


def cut(path, fraction):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])


def contents(path):
    with h5py.File(path) as file:
        data = {name: dataset[()] for name, dataset in file.items()}
        attributes = {name: np.asarray(value).tolist() for name, value in file.attrs.items()}
    return data, attributes


def reasons(report):
    return {video.path: video.reason for video in report.skipped}


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())
