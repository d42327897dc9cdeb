"""Samples of real video: crops of the three films that the demonstration uses."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from .facts import UsageError

# Frames are scaled so that the sides of a sample are so much of their shorter side.
CROPPED = 7 / 8


@functools.lru_cache(maxsize=1)
def films(side: int, channels: int) -> list[NDArray[np.uint8]]:
    """Decodes the films: for each, uint8 (frames, channels, rows, columns), the shorter of `side`.

    Raises:
        UsageError: PyAV or the films are not installed, or they have no such channels.
    """
    formats = {1: "gray", 3: "rgb24"}
    if channels not in formats:
        raise UsageError(f"films have 1 channel or 3: --sample-shape has {channels}")
    try:
        import av

        from h5video_data.tools.demo import FILMS, film_path

        paths = [film_path(name) for name in FILMS.values()]
    except ImportError as error:
        raise UsageError(f"--content films: pip install '.[demo]': {error}") from error
    found = []
    for path in paths:
        frames = []
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                scale = side / min(frame.width, frame.height)
                width, height = round(scale * frame.width), round(scale * frame.height)
                picture = frame.reformat(width, height, formats[channels])
                pixels = picture.to_ndarray().reshape(height, width, channels)
                frames.append(pixels.transpose(2, 0, 1))
        found.append(np.stack(frames))
    return found


def film_sample(index: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Makes one sample: frames that follow each other, cropped somewhere; films are looped."""
    num_frames, channels, rows, columns = shape
    found = films(round(max(rows, columns) / CROPPED), channels)
    film = found[index % len(found)]
    rng = np.random.default_rng([11, index])
    times = (rng.integers(len(film)) + np.arange(num_frames)) % len(film)
    top = rng.integers(film.shape[2] - rows + 1)
    left = rng.integers(film.shape[3] - columns + 1)
    return film[times, :, top : top + rows, left : left + columns]
