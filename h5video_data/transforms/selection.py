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


class Place(NamedTuple):
    """Place of a value in an element."""

    item: int
    """Number of the item: 0 for x, 1 for y, 2 for sample_weight."""
    name: str | None
    """Name of the value in the item, which is a dict then. None: the item is the value."""

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
    """Returns the names of a `key`; none for None.

    Raises:
        ArgumentError: `key` is something other than a name, or several different ones.
    """
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


def find_places(element: Sequence[Any], names: Sequence[str]) -> tuple[Place, ...]:
    """Finds values of an element by name: a name of x's dict or of y's.

    An item that is not a dict has the name of its argument: "x", "y" or "sample_weight".

    Args:
        element: x, y and sample_weight, as many as there are.
        names: Names of a `key`. None at all: x.

    Raises:
        ArgumentError: A name is missing or occurs twice; or no name is given and x is a dict.
    """
    found: dict[str, list[Place]] = {}
    for number, (item_name, item) in enumerate(zip(_ITEMS, element, strict=False)):
        if isinstance(item, dict):
            for name in item:
                found.setdefault(name, []).append(Place(number, name))
        else:
            found.setdefault(item_name, []).append(Place(number, None))
    if not names and not isinstance(element[0], dict):
        return (Place(0, None),)
    for name in names or (None,):
        if name not in found:
            hint = "x is a dict: " if isinstance(element[0], dict) else ""
            raise ArgumentError(
                f"{hint}`key` must be one of {sorted(found, key=str)}, the clips. "
                f"Received: key={name!r}"
            )
        if len(found[name]) > 1:
            raise ArgumentError(
                "A name in `key` must be unique: give the values of x and y different names. "
                f"Received: key={name!r}, which is in "
                + " and in ".join(_ITEMS[place.item] for place in found[name])
            )
    return tuple(found[name][0] for name in names)


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
        """Raises an ArgumentError if a shape can only be in the other order.

        Args:
            shape: Shape of a batch, of five dimensions; unknown lengths are None.
        """
        if self.data_format is None and has_channels_last(shape):
            _, _, second, third, last = shape
            raise ArgumentError(
                'The clips have their channels last: pass data_format="channels_last" '
                f'("channels_first", if they really are {second} channels of {third} x {last} '
                f"pixels). Received: clips of shape {_written(shape)}"
            )
        if self.data_format == "channels_last" and _has_channels_first(shape):
            raise ArgumentError(
                "The clips have their channels first: leave `data_format` out, or put "
                "`channels_last()` before this function. Received: clips of shape "
                f"{_written(shape)}, data_format={self.data_format!r}"
            )


def axes_of(data_format: DataFormat | None) -> ClipAxes:
    """Returns the axes for a `data_format`.

    Args:
        data_format: `"channels_first"`: (batch, frames, channels, rows, columns), or
            `"channels_last"`: (batch, frames, rows, columns, channels). None: channels first, but
            `check` rejects a shape that can only be channels last.
    """
    check_choice("data_format", data_format, None, *get_args(DataFormat))
    if data_format == "channels_last":
        return ClipAxes(4, 2, 3, data_format)
    return ClipAxes(2, 3, 4, data_format)


def has_channels_last(shape: Sequence[int | None]) -> bool:
    """Returns whether clips of a shape, of five dimensions, can only have their channels last."""
    _, _, second, third, last = shape
    return (
        second is not None
        and third is not None
        and last is not None
        and last <= _MOST_CHANNELS < min(second, third)
    )


def _has_channels_first(shape: Sequence[int | None]) -> bool:
    batch, frames, second, third, last = shape
    return has_channels_last((batch, frames, last, third, second))


def _written(shape: Sequence[int | None]) -> str:
    """Formats a shape as TensorFlow does."""
    return f"({', '.join(map(str, shape))})"
