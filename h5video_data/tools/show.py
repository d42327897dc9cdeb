"""`show`: samples of a dataset, a loader or a file as pictures, with their labels."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5video_data.arguments import check_choice, check_whole_number
from h5video_data.errors import ArgumentError
from h5video_data.loader import VideoLoader
from h5video_data.storage.paths import is_url, single_path

from .inspecting.file_facts import find_opening
from .showing.frames import (
    DataFormat,
    as_frames,
    as_pixels,
    is_video,
    resized,
    spread,
    value_range,
)
from .showing.grid import Cell, ClipGrid
from .showing.labels import class_of, label_text

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["ClipGrid", "show"]

MAX_ROWS, MIN_ROWS = 128, 64  # pixels of a frame
_MOVING_FRAMES = 32


class _Batch(NamedTuple):
    """One element of a source, as arrays whose first axis is samples."""

    x: Any
    y: Any
    numbers: NDArray[np.int64] | None
    """The samples' numbers, if they are known."""


def show(
    source: tf.data.Dataset | VideoLoader | str | os.PathLike[str],
    *,
    num_samples: int = 12,
    num_frames: int = 8,
    predictions: Any = None,
    class_names: list[str] | tuple[str, ...] | None = None,
    key: Any = None,
    data_format: DataFormat | None = None,
    limits: tuple[float, float] | None = None,
    **options: Any,
) -> ClipGrid:
    """Shows samples with their labels: the next ones that the source would give.

        h5v.show("video_data.h5")                          # in a notebook
        h5v.show(train, predictions=model).save("clips.png")  # in a script

    Looking at a dataset or a loader does not change which epoch comes next. A dataset is shown with
    its map functions, a loader without; that of a file is opened as `inspect` says.

    Args:
        source: A dataset that `video_dataset_from_hdf5` returned, or one made from it by `map`,
            `take` and the like; a `VideoLoader`; or the path of a file.
        num_samples: How many samples to show.
        num_frames: Frames of each in a row of frames, evenly spread; a moving picture has up to 32.
        predictions: A model, or a function of x, which is called on the batches that are shown. Or
            an array with a prediction for each sample of an epoch, as `model.predict` returns it:
            only where the order of the samples is not drawn (`shuffle=False`).
        class_names: The names of the classes. None: those of the source.
        key: Which value of x to show, if x is a dict; None: the first one that may be video.
        data_format: `"channels_first"` or `"channels_last"`; None: told by their number, 1 to 4.
        limits: The values that are black and white. None: 0 and 255 for uint8; for others by the
            samples shown, as a note says.
        **options: Arguments of `VideoLoader`, for a path.

    Returns:
        The clips. A notebook shows them; `save("clips.png")` and `save("clips.html")` write them.

    Raises:
        ArgumentError: An argument is invalid, or there is no video.
        H5VideoError: Any error of opening and reading the files.
    """
    check_whole_number("num_samples", num_samples, 1)
    check_whole_number("num_frames", num_frames, 1)
    check_choice("data_format", data_format, None, "channels_first", "channels_last")
    with contextlib.ExitStack() as stack:
        if isinstance(source, (str, os.PathLike)):
            source = stack.enter_context(_open(os.fsdecode(source), num_samples, options))
        elif options:
            raise ArgumentError(
                f"Other arguments go with a path. Received: {', '.join(map(repr, options))}"
            )
        loader = source if isinstance(source, VideoLoader) else getattr(source, "loader", None)
        batches = list(_batches(source, num_samples))
        names = class_names if class_names is not None else _class_names(loader)
        predicted = _predictions(predictions, batches, loader)
        axis = None if loader is None else _frames_axis(loader, key)
    samples = []
    for batch, found in zip(batches, predicted, strict=True):
        x = _video_of(batch.x, key)
        for i in range(len(x)):
            number = None if batch.numbers is None else int(batch.numbers[i])
            y = None if batch.y is None else _item(batch.y, i)
            samples.append((x[i], y, None if found is None else _item(found, i), number))
    return _grid(samples[:num_samples], num_frames, data_format, axis, limits, names)


# Which samples


def _open(path: str, num_samples: int, options: dict[str, Any]) -> VideoLoader:
    found: dict[str, Any] = {}
    options = dict(options)
    if is_url(path):
        given = (options.pop(name, None) for name in ("storage_options", "remote_options"))
        path = single_path(path, *given)
    if "x" not in options:
        opening = find_opening(path)
        found = {} if opening is None else opening.arguments()
    return VideoLoader(path, **{"batch_size": num_samples, "seed": 0, **found, **options})


def _batches(source: Any, num_samples: int) -> Iterator[_Batch]:
    if isinstance(source, VideoLoader):
        yield from _of_loader(source, num_samples)
    elif hasattr(source, "element_spec") and callable(getattr(source, "_inputs", None)):
        loader = getattr(source, "loader", None)
        if loader is not None and not loader._options.map_fns:
            yield from _of_loader(loader, num_samples)
        else:
            yield from _of_dataset(source, num_samples)
    else:
        raise ArgumentError(
            "`source` must be a dataset, a VideoLoader or the path of a file. "
            f"Received: source={source!r}"
        )


def _of_loader(loader: VideoLoader, num_samples: int) -> Iterator[_Batch]:
    plan = loader._plan_epoch(*loader._feed.position)
    if loader.batch_size is None:
        plan = plan.cut_into_samples()
    begin = 0
    for step, stop in enumerate(plan.stops.tolist()):
        if begin >= num_samples:
            return
        element = loader[step]
        batch = _parts(element, has_indices=loader._options.return_indices)
        if loader.batch_size is None:
            batch = _parts_of_one(batch)
        numbers: NDArray[np.int64] | None = plan.order[begin:stop]
        # Samples that cannot be read are left out: then it is not known which are which.
        if stop - begin != len(_first(batch.x)):
            numbers = None
        yield batch._replace(numbers=numbers)
        begin = stop


def _of_dataset(dataset: Any, num_samples: int) -> Iterator[_Batch]:
    loaders = list(_loaders_behind(dataset))
    positions = [loader._feed.position for loader in loaders]
    is_batch = None
    iterator, count = iter(dataset), 0
    try:
        for element in iterator:
            batch = _parts(_as_arrays(element), has_indices=False)
            if is_batch is None:
                single = [loader.batch_size is None for loader in loaders]
                is_batch = not (single and all(single)) or np.ndim(_first(batch.x)) > 4
            batch = batch if is_batch else _parts_of_one(batch)
            yield batch
            count += len(_first(batch.x))
            if count >= num_samples:
                break
    finally:
        del iterator
        for loader, position in zip(loaders, positions, strict=True):
            loader._feed.forget_ahead()
            loader._feed.seek(*position)


def _loaders_behind(dataset: Any) -> Iterator[VideoLoader]:
    loader = getattr(dataset, "loader", None)
    if isinstance(loader, VideoLoader):
        yield loader
    else:
        for item in dataset._inputs():
            yield from _loaders_behind(item)


def _as_arrays(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _as_arrays(item) for key, item in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(_as_arrays(item) for item in tree)
    return np.asarray(tree)


def _parts(element: Any, *, has_indices: bool) -> _Batch:
    items = element if isinstance(element, tuple) else (element,)
    items = items[:-1] if has_indices else items
    return _Batch(items[0], items[1] if len(items) > 1 else None, None)


def _parts_of_one(batch: _Batch) -> _Batch:
    def one(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: one(item) for key, item in tree.items()}
        return None if tree is None else np.asarray(tree)[np.newaxis]

    return _Batch(one(batch.x), one(batch.y), None)


def _first(tree: Any) -> Any:
    return next(iter(tree.values())) if isinstance(tree, dict) else tree


def _item(tree: Any, i: int) -> Any:
    if isinstance(tree, dict):
        return {key: _item(item, i) for key, item in tree.items()}
    return tree[i]


def _video_of(x: Any, key: Any) -> NDArray[Any]:
    if not isinstance(x, dict):
        if key is not None:
            raise ArgumentError(f"`key` goes with a dict for x. Received: key={key!r}")
        return np.asarray(x)
    if key is None:
        key = next((name for name, item in x.items() if is_video(np.shape(item)[1:])), None)
    if key not in x:
        shapes = ", ".join(f"{name!r} {np.shape(item)[1:]}" for name, item in x.items())
        raise ArgumentError(f"`key` must be one of x: {shapes}. Received: key={key!r}")
    return np.asarray(x[key])


def _frames_axis(loader: VideoLoader, key: Any) -> int | None:
    """Returns the axis of the frames where the arguments say it: windows, or a clip."""
    if loader._options.map_fns:
        return None
    x = loader._set.element[0]
    numbers = [x] if isinstance(x, int) else [x[key]] if key in x else list(x.values())
    items = [loader._set.components[number] for number in numbers]
    item = next((item for item in items if is_video(item.sample_shape)), items[0])
    if item.index.offsets is not None:
        return 0
    return None if item.clip is None else (item.clip.axis or 0)


def _class_names(loader: VideoLoader | None) -> tuple[str, ...]:
    return () if loader is None else tuple(loader._set.class_names or ())


def _predictions(given: Any, batches: list[_Batch], loader: VideoLoader | None) -> list[Any]:
    """Returns the predictions for each batch, or None for each."""
    if given is None:
        return [None] * len(batches)
    if callable(given):
        predict = getattr(given, "predict_on_batch", given)
        found = [_as_arrays(predict(batch.x)) for batch in batches]
    else:
        values = np.asarray(given)
        if loader is None or loader._options.is_order_drawn:
            raise ArgumentError(
                "`predictions`: the order of these samples is drawn anew each epoch, so an array "
                "of an earlier one is of other samples. Pass the model itself, or a dataset of "
                f"shuffle=False. Received: an array of shape {values.shape}"
            )
        used = loader._feed.position[1]
        if values.ndim == 0 or len(values) != loader.samples_per_epoch or used:
            raise ArgumentError(
                "`predictions` must have a row for each of the "
                f"{loader.samples_per_epoch} samples of an epoch. "
                f"Received: an array of shape {values.shape}"
            )
        sizes = [len(_first(batch.x)) for batch in batches]
        found = np.split(values[: sum(sizes)], np.cumsum(sizes)[:-1])
    for batch, values in zip(batches, found, strict=True):
        if len(_first(values)) != len(_first(batch.x)):
            raise ArgumentError(
                f"`predictions` must give a row for each of the {len(_first(batch.x))} samples of "
                f"a batch. Received: shape {np.shape(_first(values))}"
            )
    return found


# Pictures


def _grid(
    samples: list[Any],
    num_frames: int,
    data_format: DataFormat | None,
    axis: int | None,
    limits: tuple[float, float] | None,
    names: Any,
) -> ClipGrid:
    videos = [as_frames(x, data_format, axis) for x, *_ in samples]
    found = value_range(videos) if limits is None else (float(limits[0]), float(limits[1]))
    of_y = [y for _, y, *_ in samples if not isinstance(y, dict) and y is not None]
    has_pictures = bool(of_y) and is_video(of_y[0].shape) and of_y[0].ndim >= 3
    targets = [as_frames(y, data_format, axis) for y in of_y] if has_pictures else []
    y_limits = value_range(targets) if targets else found
    # Next frames are on the scale of those before them.
    if targets and targets[0].dtype == videos[0].dtype and limits is not None:
        y_limits = found
    cells = []
    for i, (_, y, prediction, number) in enumerate(samples):
        pixels = _pixels(videos[i], found)
        caption = "" if number is None else f"#{number}"
        if targets:
            pixels, how = _beside(pixels, _pixels(targets[i], y_limits))
            caption = f"{caption} {how}".strip()
        elif y is not None:
            caption = f"{caption} {label_text(y, names)}".strip()
        is_wrong = False
        if prediction is not None:
            caption += f" -> {label_text(prediction, names)}"
            classes = None if y is None or isinstance(y, dict) else class_of(y, names)
            guess = None if isinstance(prediction, dict) else class_of(prediction, names)
            is_wrong = classes is not None and guess is not None and classes != guess
        cells.append(Cell(pixels, caption, is_wrong))
    note = ""
    if videos[0].dtype != np.uint8 or found != (0.0, 255.0):
        note = f"Black is {found[0]:.4g}, white is {found[1]:.4g}."
    return ClipGrid(cells, note, num_frames)


def _pixels(frames: NDArray[Any], limits: tuple[float, float]) -> NDArray[np.uint8]:
    pixels = as_pixels(frames[spread(len(frames), _MOVING_FRAMES)], limits)
    return resized(pixels, min(MAX_ROWS, max(MIN_ROWS, pixels.shape[1])))


def _beside(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], str]:
    """Joins x and y: side by side if they have as many frames, else after each other."""
    if x.shape[1] != y.shape[1]:
        y = resized(y, x.shape[1])
    if len(x) == len(y):
        return np.concatenate([x, y], axis=2), "x | y"
    if len(y) == 1:
        return np.concatenate([x, np.repeat(y, len(x), axis=0)], axis=2), "x | y"
    width = max(x.shape[2], y.shape[2])
    x, y = (np.pad(v, ((0, 0), (0, 0), (0, width - v.shape[2]), (0, 0))) for v in (x, y))
    return np.concatenate([x, y]), "x, then y"
