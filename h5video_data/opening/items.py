"""What `x`, `y` and `sample_weight` were given: names of datasets, or arrays of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from h5video_data.errors import ArgumentError, FileFormatError
from h5video_data.sampling.split_indices import check_not_masked
from h5video_data.storage.layout import SUPPORTED_DTYPES
from h5video_data.storage.strings import as_text

Names: TypeAlias = str | Mapping[str, str]
Labels: TypeAlias = str | ArrayLike | Mapping[str, str | ArrayLike]

# What the name of an array's component ends with.
_ARRAY = " (array)"

_EXPECTED = (
    "`x` and `y` must be the name of a dataset, or a dict of names for several of them, such as "
    'x={"rgb": "X", "flow": "F"}, and `sample_weight` a name. `y` and `sample_weight` may also be '
    "arrays (samples, ...), or dicts of them; y=None does without labels."
)


@dataclass(frozen=True, eq=False)
class Items:
    """The items of an element, checked as far as they can be without the files."""

    element: tuple[Any, ...]
    """The structure of an element: (x,), (x, y) or (x, y, sample_weight), where each is the name of
    a component, or a dict of them."""
    arrays: Mapping[str, NDArray[Any]]
    """By the component's name, the arrays that were given: numbers, or strings as `str` objects."""

    @property
    def names(self) -> list[str]:
        """The components' names, each once."""
        return list(dict.fromkeys(name for tree in self.element for name in listed(tree)))

    @property
    def datasets(self) -> list[str]:
        """The names of components that are datasets."""
        return [name for name in self.names if name not in self.arrays]

    @property
    def labels(self) -> set[str]:
        """The names of y that are neither in x nor in `sample_weight`: these may be strings."""
        x, *others = ({*listed(tree)} for tree in self.element)
        return others[0] - x.union(*others[1:]) if others else set()

    @property
    def single_label(self) -> str | None:
        """The name of y, if it is one component; None: it is a dict, or there is none."""
        label = self.element[1] if len(self.element) > 1 else None
        return label if isinstance(label, str) else None


def listed(names: Names) -> list[str]:
    """Returns the names of an item: one, or those of a dict."""
    return [names] if isinstance(names, str) else list(names.values())


def check_items(x: Names, y: Labels | None, sample_weight: Labels | None) -> Items:
    """Checks the arguments of that name.

    Raises:
        ArgumentError: They are neither names nor arrays.
    """
    if sample_weight is not None and y is None:
        raise ArgumentError(
            f"`sample_weight` needs labels. Received: sample_weight={sample_weight!r}, y=None"
        )
    if x is None:
        raise ArgumentError("`x` must not be None; only `y` may be. Received: x=None")
    arrays: dict[str, NDArray[Any]] = {}

    def leaf(argument: str, value: Any) -> str:
        if isinstance(value, str) and value:
            return value
        if argument[0] == "x" and hasattr(value, "__array__"):
            raise ArgumentError(
                "`x` must be the name of a dataset, or a dict of names; only `y` and "
                f"`sample_weight` may be arrays. Received: {argument}=an array, {type(value)}"
            )
        if argument[0] == "x" or isinstance(value, (str, bytes, Mapping)) or value is None:
            raise ArgumentError(f"{_EXPECTED} Received: {argument}={value!r}")
        name = f"{argument}{_ARRAY}"
        arrays[name] = _as_array(argument, value, is_label=argument[0] == "y")
        return name

    element: list[Any] = []
    for argument, value in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        if isinstance(value, Mapping) and value:
            element.append({k: leaf(f"{argument}[{k!r}]", item) for k, item in value.items()})
        elif value is not None:
            element.append(leaf(argument, value))
    return Items(tuple(element), arrays)


def _as_array(argument: str, value: Any, *, is_label: bool) -> NDArray[Any]:
    """Returns a copy of an array: numbers in native byte order, or strings as `str` objects."""
    if isinstance(value, Sequence) and len(value) and all(isinstance(v, str) for v in value):
        raise ArgumentError(
            f"{_EXPECTED} A list of strings may be meant as names or as labels: pass "
            f'{argument}={{"a": "A", "b": "B"}} for several datasets, or np.array(labels) for a '
            f"label of each sample. Received: {argument}={value!r:.200}"
        )
    try:
        array: NDArray[Any] = np.asarray(value).copy()  # which the caller may write to later
    except Exception as error:
        raise ArgumentError(
            f"{_EXPECTED} NumPy cannot make an array of {argument}: {error}. "
            f"Received: {argument}={value!r:.200}"
        ) from error
    if array.ndim == 0 or 0 in array.shape[1:]:
        raise ArgumentError(
            f"{_EXPECTED} Received: {argument}={value!r:.200}, of shape {array.shape}"
        )
    check_not_masked(f"`{argument}`", value)
    # NumPy's strings of any length have no byte order, not even to ask for.
    if array.dtype.kind != "T" and array.dtype.newbyteorder("=").name in SUPPORTED_DTYPES:
        return np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    strings = np.array(array.ravel().tolist(), object)
    if not is_label or array.dtype.kind not in "USTO":
        raise ArgumentError(
            f"The array {argument} must hold numbers{' or strings' if is_label else ''}. "
            f"Received: values of dtype {array.dtype}"
        )
    for number, string in enumerate(strings):
        if not isinstance(string, (str, bytes)):
            raise ArgumentError(
                f"The array {argument} must hold numbers, or strings, and none may be missing. "
                f"Received: {string!r} for sample {number * len(array) // array.size}"
            )
    strings[:] = [as_text(string) for string in strings]
    return strings.reshape(array.shape)


def check_length(name: str, values: NDArray[Any], num_samples: int) -> None:
    """Raises an ArgumentError if an array does not have a value for each sample of the set."""
    if len(values) != num_samples:
        raise ArgumentError(
            f"The array of {name.removesuffix(_ARRAY)} must have a value for each of the "
            f"{num_samples} samples in use of all files. Received: an array of shape "
            f"{values.shape}, {len(values)} values"
        )


def class_numbers(
    strings: NDArray[Any], known: tuple[str, ...] | None, name: str, *, is_strict: bool
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Numbers the classes of string labels, in the order of their sorted names.

    Args:
        strings: (samples, ...), `str` objects.
        known: The attribute `class_names`, whose order counts if it has all of them; or None.
        name: Name of the component.
        is_strict: Whether it is an error if the attribute has some of them, but not all.

    Returns:
        int32 (samples, ...), and the names of the classes.
    """
    names = tuple(sorted(set(strings.flat)))
    if known is not None:
        others = [text for text in names if text not in known]
        if not others and len(set(known)) == len(known):
            names = known
        elif is_strict and 0 < len(others) < len(names):
            raise FileFormatError(
                f"The labels {name!r} must all be in the attribute `class_names`. Received: "
                f"{others[:8]}, and class_names {list(known)}. Correct the file, or pass the "
                "labels as an array of class numbers."
            )
    numbers = {text: number for number, text in enumerate(names)}
    values = np.fromiter((numbers[text] for text in strings.flat), np.int32, strings.size)
    return values.reshape(strings.shape), names
