"""Meaning of `key` and `data_format`: which values of an element are clips, and their axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

from h5video_data.arguments import check_choice
from h5video_data.errors import ArgumentError

Key = str | Sequence[str] | None
DataFormat = Literal["channels_first", "channels_last"]

# Items of an element, named as the arguments of `video_dataset_from_hdf5`.
_ITEMS = ("x", "y", "sample_weight")

# Channels of grey, flow, RGB, RGBA: frames have more rows and columns than that.
_MOST_CHANNELS = 4
# Channels of images: grey, RGB, RGBA. Two are rather the frames of video without channels.
_IMAGE_CHANNELS = (1, 3, 4)


class Place(NamedTuple):
    """Place of a value in an element."""

    item: int
    """Number of the item: 0 for x, 1 for y, 2 for sample_weight."""
    name: str | None
    """Name of the value in the item, which is a dict then. None: the item is the value."""

    @property
    def key(self) -> str:
        """Name for a `key`; an item that is not a dict has the name of its argument."""
        return _ITEMS[self.item] if self.name is None else self.name

    def get(self, element: Sequence[Any]) -> Any:
        """Returns the value there."""
        item = element[self.item]
        return item if self.name is None else item[self.name]

    def put(self, element: Sequence[Any], value: Any) -> tuple[Any, ...]:
        """Returns an element with another value there."""
        items = list(element)
        items[self.item] = value if self.name is None else {**items[self.item], self.name: value}
        return tuple(items)


def as_names(key: Key) -> tuple[str, ...]:
    """Returns the names of a `key`; none for None."""
    if key is None:
        return ()
    names = (key,) if isinstance(key, str) else tuple(key) if isinstance(key, Sequence) else ()
    if (
        not names
        or len(set(map(repr, names))) < len(names)
        or not all(isinstance(name, str) for name in names)
    ):
        raise ArgumentError(
            '`key` must be a name, or several different ones, such as ("x", "y"). '
            f"Received: key={key!r}"
        )
    return names


def all_places(element: Sequence[Any]) -> list[Place]:
    """Returns the places of all values of an element."""
    return [
        Place(number, name)
        for number, item in enumerate(element)
        for name in (item if isinstance(item, dict) else (None,))
    ]


def find_places(element: Sequence[Any], names: Sequence[str]) -> tuple[Place, ...]:
    """Finds values of an element by the names of a `key`; without names, x."""
    if not names and not isinstance(element[0], dict):
        return (Place(0, None),)
    places = all_places(element[: len(_ITEMS)])
    found: list[Place] = []
    for name in names or (None,):
        matches = [place for place in places if place.key == name]
        if not matches:
            hint = "x is a dict: " if isinstance(element[0], dict) else ""
            raise ArgumentError(
                f"{hint}`key` must be one of {sorted({place.key for place in places}, key=str)}, "
                f"the clips. Received: key={name!r}"
            )
        if len(matches) > 1:
            raise ArgumentError(
                "A name in `key` must be unique: give the values of x and y different names. "
                f"Received: key={name!r}, which is in "
                + " and in ".join(_ITEMS[place.item] for place in matches)
            )
        found += matches
    return tuple(found)


class ClipAxes(NamedTuple):
    """Numbers of the axes of a batch of clips, (batch, frames, ...)."""

    channels: int
    rows: int
    columns: int
    data_format: DataFormat | None
    """The argument as it was given."""

    @property
    def of_frames(self) -> dict[str, int]:
        """Axes of a frame, by name."""
        return {"rows": self.rows, "columns": self.columns}

    def check(self, shape: Sequence[int | None]) -> None:
        """Raises an ArgumentError if a shape can only be in the other order."""
        second, third, last = shape[-3:]
        if self.data_format is None and has_channels_last(second, third, last):
            raise ArgumentError(
                'The clips have their channels last: pass data_format="channels_last" '
                f'("channels_first", if they really are {second} channels of {third} x {last} '
                f"pixels). Received: clips of shape {tuple(shape)}"
            )
        if self.data_format == "channels_last" and has_channels_last(last, third, second):
            raise ArgumentError(
                "The clips have their channels first: leave `data_format` out, or put "
                "`channels_last()` before this function. Received: clips of shape "
                f"{tuple(shape)}, data_format={self.data_format!r}"
            )

    def check_images(self, shape: Sequence[int | None]) -> None:
        """Raises an ArgumentError if a shape of four dimensions may be of video without channels.

        What can only be of the other order is left to `check`, as clips of one frame.
        """
        _, second, third, last = shape
        if self.data_format == "channels_last":
            fits = last is not None and last <= _MOST_CHANNELS
            fits = fits or has_channels_last(last, third, second)
        elif self.data_format is None:
            fits = second in _IMAGE_CHANNELS or has_channels_last(second, third, last)
        else:
            fits = True
        if not fits:
            raise ArgumentError(
                "4 dimensions are images of 1, 3 or 4 channels, (batch, channels, rows, columns), "
                'or with data_format="channels_last" (batch, rows, columns, channels). For '
                "images of more channels, add an axis of one frame in a map function before this "
                "one, by `tf.expand_dims(x, 1)`; for video or masks without channels, an axis of "
                "one channel, by `tf.expand_dims(x, 2)`, or -1 for channels last. "
                f"Received: clips of shape {tuple(shape)}, data_format={self.data_format!r}"
            )


def axes_of(data_format: DataFormat | None) -> ClipAxes:
    """Returns the axes for a `data_format`; None is channels first, with a check of the shape."""
    check_choice("data_format", data_format, None, *get_args(DataFormat))
    if data_format == "channels_last":
        return ClipAxes(4, 2, 3, data_format)
    return ClipAxes(2, 3, 4, data_format)


def has_channels_last(*lengths: int | None) -> bool:
    """Returns whether the last three lengths of a shape can only be rows, columns, channels."""
    known = [length for length in lengths if length is not None]
    return len(known) == 3 and known[2] <= _MOST_CHANNELS < min(known[:2])


def may_be_images(shape: Sequence[int | None]) -> bool:
    """Returns whether a shape of four dimensions, (batch, ...), is rather of images than of clips.

    That is, of three channels, or of square images whose channels are last. Four channels may be
    grey frames, as they are stacked for games; one is nothing that frames could be mistaken for.
    """
    if len(shape) != 4:
        return False
    _, second, third, last = shape
    if has_channels_last(second, third, last):
        return second == third and last in _IMAGE_CHANNELS
    return second == 3 and has_channels_last(last, third, second)
