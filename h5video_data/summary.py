"""What a loader or a dataset holds: a line for its `repr`, and a table for a notebook."""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np


class ArraySpec(NamedTuple):
    """Shape and dtype of an array; None in the shape: not known, or not always the same."""

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


def summary(
    spec: Any,
    *,
    num_files: int,
    num_samples: int,
    num_stored: int,
    batch_size: int | None,
    names: Sequence[str],
) -> str:
    """Returns files, samples, batch size, and what an element is made of.

    Args:
        spec: An element: x, (x, y), (x, y, sample_weight), of dicts or of objects that have the
            attributes `shape` and `dtype`. A map function may make other elements.
        num_files: Number of files.
        num_samples: Number of samples in use.
        num_stored: Number of samples in the files.
        batch_size: The argument of the loader.
        names: Names of the items of an element before the map functions.
    """
    parts = spec if isinstance(spec, tuple) and not isinstance(spec, ArraySpec) else (spec,)
    mapped = ("x", "y", "sample_weight") if len(parts) <= 3 else itertools.count()
    return ", ".join(
        [
            counted(num_files, "file"),
            counted(num_samples, "sample")
            if num_samples == num_stored
            else f"{num_samples} of {counted(num_stored, 'sample')}",
            f"batch_size={batch_size}",
            *(
                f"{name}: {_text(part)}"
                for name, part in zip(
                    names if len(parts) == len(names) else mapped, parts, strict=False
                )
            ),
        ]
    )


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Returns a number of things as text: `1 sample`, `2 samples`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def _text(spec: Any) -> str:
    if isinstance(spec, dict):
        return f"{{{', '.join(f'{key}: {_text(item)}' for key, item in spec.items())}}}"
    if hasattr(spec, "shape") and hasattr(spec, "dtype"):
        return f"{spec.dtype.name} {tuple(spec.shape)}"
    return str(spec)


# Classes, and datasets, that are listed.
_MAX_LISTED = 12


def reading_rows(
    components: Sequence[Any], counts: Sequence[tuple[str, int]]
) -> list[tuple[str, str]]:
    """Returns how each dataset is read and why, and the classes with their samples.

    Args:
        components: Those of a set.
        counts: (class, samples) of each.

    Returns:
        (name, text) of each.
    """
    rows = []
    for item in components[:_MAX_LISTED]:
        ways = dict.fromkeys(f"{access.kind} ({access.reason})" for access in item.accesses)
        if ways:
            rows.append((item.name, f"read by {' or '.join(ways)}"))
    if counts:
        shown = [f"{name} {count}" for name, count in counts[:_MAX_LISTED]]
        more = len(counts) - len(shown)
        shown += [f"... and {more} more"] if more else []
        rows.append(("classes", ", ".join(shown)))
    return rows


def table(head: str, rows: Sequence[tuple[str, str]]) -> str:
    """Returns a heading and rows of names and texts as HTML."""
    cells = "".join(
        f'<tr><th style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left">{html.escape(text)}</td></tr>'
        for name, text in rows
    )
    return f"<div><code>{html.escape(head)}</code><table>{cells}</table></div>"


class Described:
    """Looks of what has details: `str` and a notebook tell more than `repr`."""

    def _details(self) -> list[tuple[str, str]]:
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n".join([repr(self), *(f"  {name}: {text}" for name, text in self._details())])

    def _repr_html_(self) -> str:
        return table(repr(self), self._details())


class NotAnArray:
    """What NumPy and TensorFlow would read whole, as any sequence, and are to leave alone."""

    @property
    def __array_interface__(self) -> NoReturn:
        # Not `__array__`, by which Keras tells arrays.
        raise TypeError(
            "A VideoLoader is no array: `loader[i]` reads one element, an iterator all of an epoch."
        )

    def __tf_tensor__(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("A VideoLoader is no tensor: `loader.dataset()` is its tf.data.Dataset.")
