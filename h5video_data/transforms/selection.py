"""What `key` and `data_format` mean: which values of an element are clips, and their axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from h5video_data.errors import ArgumentError

Key = str | Sequence[str] | None

# What an element is made of, as the arguments of `video_dataset_from_hdf5` call it.
_PARTS = ("x", "y", "sample_weight")

# Channels of grey, flow, RGB, RGBA: frames have more rows and columns than that.
_FEW = 4


class Place(NamedTuple):
    """Where a value is in an element."""

    part: int
    """Number of the part: 0 for x, 1 for y, 2 for sample_weight."""
    name: str | None
    """Its name in the part, which is a dict then. None: the part is the value."""

    def get(self, element: Sequence[Any]) -> Any:
        """The value."""
        part = element[self.part]
        return part if self.name is None else part[self.name]

    def put(self, element: Sequence[Any], value: Any) -> tuple[Any, ...]:
        """An element that has another value there."""
        parts = list(element)
        parts[self.part] = value if self.name is None else {**parts[self.part], self.name: value}
        return tuple(parts)


def as_names(key: Key) -> tuple[str, ...]:
    """The names that a `key` consists of; none for None.

    Raises:
        ArgumentError: It is something else than a name, or several.
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
    """Where the values of these names are: names of x's dict or of y's.

    A part that is no dict has the name of its argument: "x", "y" or "sample_weight".

    Args:
        element: x, y and sample_weight, as many as there are.
        names: Of a `key`. None at all: x.

    Raises:
        ArgumentError: A name is not there, or there are two of it; or none is given and x is a
            dict.
    """
    found: dict[str, list[Place]] = {}
    for number, (part_name, part) in enumerate(zip(_PARTS, element, strict=False)):
        if isinstance(part, dict):
            for name in part:
                found.setdefault(name, []).append(Place(number, name))
        else:
            found.setdefault(part_name, []).append(Place(number, None))
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
                "A name in `key` must be that of one value: give the values of x and y different "
                f"names. Received: key={name!r}, which is in "
                + " and in ".join(_PARTS[place.part] for place in found[name])
            )
    return tuple(found[name][0] for name in names)


class ClipAxes(NamedTuple):
    """The axes of batches of clips, (batch, frames, ...)."""

    channels: int
    rows: int
    columns: int
    data_format: str | None
    """As it was given."""

    @property
    def of_frames(self) -> dict[str, int]:
        """Those of a frame, by name."""
        return {"rows": self.rows, "columns": self.columns}

    def check(self, shape: Sequence[int | None]) -> None:
        """Raises an ArgumentError where a shape shows that the axes are others.

        Args:
            shape: That of a batch, of five dimensions; lengths that are not known are None.
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
                "The clips have their channels first: leave `data_format` out, or let "
                "`channels_last()` come before. Received: clips of shape "
                f"{_written(shape)}, data_format={self.data_format!r}"
            )


def axes_of(data_format: str | None) -> ClipAxes:
    """The axes for a `data_format`.

    Args:
        data_format: `"channels_first"`: (batch, frames, channels, rows, columns), or
            `"channels_last"`: (batch, frames, rows, columns, channels). None: channels first, but
            `check` refuses a shape that looks like channels last.
    """
    if data_format in (None, "channels_first"):
        return ClipAxes(2, 3, 4, data_format)
    if data_format == "channels_last":
        return ClipAxes(4, 2, 3, data_format)
    raise ArgumentError(
        f'`data_format` must be "channels_first" or "channels_last". Received: {data_format!r}'
    )


def has_channels_last(shape: Sequence[int | None]) -> bool:
    """Whether clips of this shape, of five dimensions, can only have their channels last."""
    _, _, second, third, last = shape
    return (
        second is not None
        and third is not None
        and last is not None
        and last <= _FEW < min(second, third)
    )


def _has_channels_first(shape: Sequence[int | None]) -> bool:
    batch, frames, second, third, last = shape
    return has_channels_last((batch, frames, last, third, second))


def _written(shape: Sequence[int | None]) -> str:
    """As TensorFlow writes shapes."""
    return f"({', '.join(map(str, shape))})"
