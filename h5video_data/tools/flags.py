"""Arguments of Python functions as they are typed on the command line."""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.storage.system import shell_words

# An argument and its value as `repr` writes it (x='X', size=(8, 8), overwrite=True), the name of an
# argument in backticks, or another quoted text or a call, in which nothing is translated.
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
# Of a call in Python, whose arguments are meant as they are; brackets, two in each other at most.
_CALL = r"h5v\.\w+\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
_LITERAL = rf"{_QUOTED}|\([^()]*\)|\[[^][]*\]|-?\d+|True|False|None"
_ARGUMENTS = re.compile(rf"(?<![^\s(])(\w+)=({_LITERAL})|`(\w+)`|{_CALL}|(?<!\w)(?:{_QUOTED})")


def in_flags(message: str, flags: Mapping[str, str]) -> str:
    """Translates the arguments of a Python function in a message to the command line's.

        "`out` exists. Use overwrite=True to replace it. Received: out='a.h5'"
        "OUT.h5 exists. Use --overwrite to replace it. Received: OUT.h5=a.h5"

    `flags` has the flag of each argument, or the placeholder of a positional one, by its name.
    """

    def translate(found: re.Match[str]) -> str:
        name, value = found[1] or found[3], found[2]
        with contextlib.suppress(KeyError, ValueError, SyntaxError):
            return flags[name] if value is None else _typed(flags[name], ast.literal_eval(value))
        return found[0]

    return _ARGUMENTS.sub(translate, message)


def _typed(flag: str, value: Any) -> str:
    """Returns what to type to give an argument this value."""
    if value is True or value is False:
        return flag if value else f"no {flag}"
    if value is None:
        value = "none"
    if isinstance(value, list):
        return " ".join(_typed(flag, item) for item in value)
    text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{flag}{' ' if flag.startswith('-') else '='}{shell_words([text])}"


def size_of(text: str) -> tuple[int, int]:
    """Parses `112` or `112x96`: (rows, columns)."""
    numbers = [int(number) if number.isdecimal() else 0 for number in text.lower().split("x")]
    if len(numbers) not in (1, 2) or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"it must be pixels, as 112 or 112x96, and is {text!r}")
    return numbers[0], numbers[-1]


def indices_of(text: str) -> NDArray[np.int64]:
    """Parses `0:100`, `3,5,8`, or `@FILE`: a `.npy` of numbers or a mask, or a text of numbers."""
    if text.startswith("@"):
        return _numbers_in(Path(text[1:]))
    parts = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)(?::(\d+))?\s*", part)
        if found is None:
            raise argparse.ArgumentTypeError(
                f"it must be numbers of samples, as 3,5,8, 0:100 (the first hundred) or @FILE, and "
                f"is {text!r}"
            )
        first = int(found[1])
        parts.append(np.arange(first, int(found[2] or first + 1), dtype=np.int64))
    return np.concatenate(parts)


def _numbers_in(path: Path) -> NDArray[Any]:
    try:
        if path.suffix == ".npy":
            found: NDArray[Any] = np.load(path, allow_pickle=False)
            return found
        return np.array([int(word) for word in path.read_text("utf-8").replace(",", " ").split()])
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot read the file: {error.strerror}") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{path} must be a .npy file, or a text of whole numbers: {error}"
        ) from None


def json_object_of(text: str) -> dict[str, Any]:
    """Parses a JSON object of options; whatever is wrong with it, it is not shown."""
    try:
        given = Path(text[1:]).read_text("utf-8") if text.startswith("@") else text
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot read the file: {error.strerror}") from None
    try:
        found = json.loads(given)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError('it must be a JSON object, such as {"anon": true}')
    return found
