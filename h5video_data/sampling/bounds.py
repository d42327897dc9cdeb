"""Where recordings begin and end in the rows of a dataset, by the values that a file has for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import FileFormatError

BoundsKind = Literal["starts", "lengths", "ends", "ids"]

Indices = NDArray[np.int64]

_IS_END = "may be the end or an empty recording"


def read_bounds(
    values: NDArray[Any], num_rows: int, where: str, kind: BoundsKind | None = None
) -> Indices:
    """Returns the rows at which recordings begin, and the end of the last one.

    Args:
        values: What the file has: `starts`, `lengths` or `ends` of recordings, numbers
            (recordings,); or `ids`, (num_rows,), equal for the rows of a recording, which follow
            each other. Starts may end with `num_rows`. (recordings, 1) will do.
        num_rows: Number of rows that are divided into recordings.
        where: Name of the dataset and its file, for messages.
        kind: Which of them it is. None: the one that the values can be.

    Returns:
        int64 (recordings + 1,), ascending, from 0 to `num_rows`. A recording may have no rows.

    Raises:
        FileFormatError: The values divide the rows in no such way, or in several.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or not len(values):
        raise FileFormatError(
            f"{where}: bounds of recordings must have the shape (recordings,), or (rows,) if they "
            f"are ids. Received: shape {values.shape}"
        )
    kinds = get_args(BoundsKind) if kind is None else (kind,)
    found, reasons = _readings(values, num_rows, kinds, _READERS)
    if not found:
        found, more = _readings(values, num_rows, kinds, _WITH_EMPTY)
        reasons |= {name: reason for name, reason in more.items() if _IS_END in reason}
    if not found:
        raise FileFormatError(
            f"{where}: the values do not divide {num_rows} rows into recordings. "
            + "; ".join(f"as {name}: {reason}" for name, reason in reasons.items())
            + f". Received: {_shown(values)}"
        )
    readings = {edges.tobytes() for edges in found.values()}
    if len(readings) > 1:
        first = next(iter(found))
        raise FileFormatError(
            f"{where}: the values may be {' or '.join(found)} of recordings in {num_rows} rows. "
            f'Say which, such as bounds=("{first}", ...). Received: {_shown(values)}'
        )
    return next(iter(found.values()))


def _readings(
    values: NDArray[Any],
    num_rows: int,
    kinds: Sequence[str],
    readers: Mapping[str, Callable[[Any, int], Indices | str]],
) -> tuple[dict[str, Indices], dict[str, str]]:
    """Returns the edges by the kinds that the values can be, and why they cannot be the others."""
    found: dict[str, Indices] = {}
    reasons: dict[str, str] = {}
    for name in kinds:
        if name not in readers:
            continue
        numbers = values if name == "ids" else _whole_numbers(values)
        if numbers is None:
            reasons[name] = "they are not whole numbers"
            continue
        edges = readers[name](numbers, num_rows)
        if isinstance(edges, str):
            reasons[name] = edges
        else:
            found[name] = edges
    return found, reasons


def _whole_numbers(values: NDArray[Any]) -> Indices | None:
    """Returns numbers as int64; None if they are not whole, or too large."""
    if values.dtype.kind not in "iuf":
        return None
    # Beyond 2**53, floats are no exact numbers of rows.
    if not (np.isfinite(values).all() and (abs(values.astype(np.float64)) < 2**53).all()):
        return None
    numbers = values.astype(np.int64)
    return numbers if (numbers == values).all() else None


def _from_starts(values: Indices, num_rows: int) -> Indices | str:
    if values[0] != 0:
        return f"the first one is {values[0]}, not 0"
    if (np.diff(values) <= 0).any():
        return "they do not ascend"
    if values[-1] > num_rows:
        return f"the last one is {values[-1]}"
    return values if values[-1] == num_rows else np.append(values, num_rows)


def _from_lengths(values: Indices, num_rows: int) -> Indices | str:
    if (values < 0).any():
        return "some are negative"
    # Floats, for a sum of damaged numbers may be too large for an int64.
    if values.sum(dtype=np.float64) != num_rows:
        return f"their sum is {values.sum(dtype=np.float64):.0f}"
    return np.append(0, np.cumsum(values))


def _from_ends(values: Indices, num_rows: int) -> Indices | str:
    if values[0] <= 0 or (np.diff(values) <= 0).any():
        return "they do not ascend from 1"
    if values[-1] != num_rows:
        return f"the last one is {values[-1]}"
    return np.append(0, values)


def _from_starts_with_empty(values: Indices, num_rows: int) -> Indices | str:
    """Reads starts some of which come twice: those of recordings without rows."""
    if values[0] != 0 or (np.diff(values) < 0).any() or values[-1] > num_rows:
        return "they do not ascend"
    if values[-1] == num_rows:
        return f"some come twice, and the last one, {num_rows}, {_IS_END}"
    return np.append(values, num_rows)


def _from_ends_with_empty(values: Indices, num_rows: int) -> Indices | str:
    """Reads ends some of which come twice, or are 0: those of recordings without rows."""
    if values[0] < 0 or (np.diff(values) < 0).any() or values[-1] != num_rows:
        return "they do not ascend"
    return np.append(0, values)


def _from_ids(values: NDArray[Any], num_rows: int) -> Indices | str:
    if len(values) != num_rows:
        return f"there are {len(values)} of them"
    if values.dtype.kind not in "biufSUO":
        return f"they are of dtype {values.dtype}"
    if values.dtype.kind == "f" and np.isnan(values).any():
        return "some are NaN"
    try:
        changes = np.flatnonzero(values[1:] != values[:-1]) + 1
        firsts = values[np.append(0, changes)]
        distinct, counts = np.unique(firsts, return_counts=True)
    except (TypeError, ValueError):
        return "they cannot be compared"
    if (counts > 1).any():
        return f"{distinct[counts > 1].tolist()[0]!r} comes again after other ids"
    return np.concatenate([[0], changes, [num_rows]]).astype(np.int64)


_READERS: dict[str, Callable[[Any, int], Indices | str]] = {
    "starts": _from_starts,
    "lengths": _from_lengths,
    "ends": _from_ends,
    "ids": _from_ids,
}

_WITH_EMPTY: dict[str, Callable[[Any, int], Indices | str]] = {
    "starts": _from_starts_with_empty,
    "ends": _from_ends_with_empty,
}


def _shown(values: NDArray[Any]) -> str:
    head = ", ".join(str(value) for value in values[:4].tolist())
    return f"{values.dtype} ({len(values)},): {head}{', ...' if len(values) > 4 else ''}"
