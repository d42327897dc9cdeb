"""Checks of arguments that several functions make."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ArgumentError


def is_whole_number(value: Any) -> bool:
    """Whether a value is an integer of Python or NumPy; a bool is none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_whole_number(name: str, value: Any, least: int, *, or_none: bool = False) -> None:
    """Raises an ArgumentError if an argument is not an integer of at least `least`.

    Args:
        name: Name of the argument.
        value: Its value.
        least: The smallest value that it may have.
        or_none: Whether it may be None.
    """
    if value is None and or_none:
        return
    if not is_whole_number(value) or value < least:
        raise ArgumentError(
            f"`{name}` must be a whole number, {least} or more. Received: {name}={value!r}"
        )


def is_one_of(value: Any, *choices: str | None) -> bool:
    """Whether an argument is one of the choices; an array, which compares item by item, is not."""
    return (value is None or isinstance(value, str)) and value in choices


def check_choice(name: str, value: Any, *choices: str | None) -> None:
    """Raises an ArgumentError if an argument is not one of the choices."""
    if not is_one_of(value, *choices):
        *first, last = ("None" if item is None else f'"{item}"' for item in choices)
        listed = f"{', '.join(first)} or {last}" if first else last
        raise ArgumentError(f"`{name}` must be {listed}. Received: {name}={value!r}")
