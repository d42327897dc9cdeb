"""Labels and predictions as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_MAX_VALUES = 4


def label_text(value: Any, class_names: Sequence[str] = ()) -> str:
    """Returns a label of one sample, or a prediction: the class, or a few numbers.

    A vector of 0 and one 1 is one-hot, one of several 1 multi-hot, one that sums up to 1
    probabilities; of others, the first numbers are shown.
    """
    if isinstance(value, dict):
        return ", ".join(f"{key}: {label_text(item)}" for key, item in value.items())
    values = np.asarray(value)
    if values.shape == (1,):
        values = values[0]
    if values.dtype.kind in "OSU":
        item = values.item() if values.shape == () else values.ravel()[0]
        return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
    found = class_of(values, class_names)
    if found is not None:
        is_probability = values.ndim == 1 and values.max() < 1
        return _name(found, class_names) + (f" {values.max():.0%}" if is_probability else "")
    if values.ndim == 1 and _is_binary(values) and (len(class_names) == len(values)):
        return ", ".join(_name(i, class_names) for i in np.flatnonzero(values).tolist()) or "none"
    numbers = [f"{number:.3g}" for number in values.ravel()[:_MAX_VALUES].tolist()]
    more = f", ... {values.shape}" if values.size > _MAX_VALUES else ""
    return ", ".join(numbers) + more


def class_of(value: Any, class_names: Sequence[str] = ()) -> int | None:
    """Returns the number of a label's or a prediction's class; None: it is no class."""
    values = np.asarray(value)
    if values.shape == (1,):
        values = values[0]
    if values.shape == ():
        is_class = values.dtype.kind in "iu" or (
            values.dtype.kind == "f" and bool(class_names) and float(values).is_integer()
        )
        return int(values) if is_class else None
    if values.ndim != 1 or values.dtype.kind not in "fiub" or not np.isfinite(values).all():
        return None
    is_one_hot = _is_binary(values) and values.sum() == 1
    is_probability = (values >= 0).all() and abs(float(values.sum()) - 1) < 1e-2
    return int(values.argmax()) if is_one_hot or is_probability else None


def _is_binary(values: Any) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def _name(number: int, class_names: Sequence[str]) -> str:
    return class_names[number] if 0 <= number < len(class_names) else str(number)
