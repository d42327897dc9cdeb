"""How requests to a store are sent: what users may choose, and the defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any

from h5video_data.arguments import check_whole_number
from h5video_data.errors import ArgumentError


@dataclass(frozen=True)
class RequestOptions:
    """How many requests are sent at once, and what is done when one fails.

    `video_dataset_from_hdf5` documents them, as the keys of `remote_options`.

    Raises:
        ArgumentError: A value is not valid.
    """

    # Measured, at 50 ms: see docs/remote.md, "What it costs". Of ranges, and as many of what HDF5
    # reads itself, which must not wait for the others: see `connection.Connection`.
    max_requests: int = 128
    max_retries: int | None = None
    # A server that is restarted or that throttles comes back within this; a training waits for it.
    deadline_seconds: float = 60.0
    timeout_seconds: float = 20.0
    # Each pause is twice the one before; half of it is drawn at random.
    first_pause_seconds: float = 0.1
    max_pause_seconds: float = 5.0

    def __post_init__(self) -> None:
        check_whole_number('remote_options["max_requests"]', self.max_requests, 1)
        check_whole_number('remote_options["max_retries"]', self.max_retries, 0, or_none=True)
        for name in ("deadline", "timeout", "first_pause", "max_pause"):
            _check_seconds(f"{name}_seconds", getattr(self, f"{name}_seconds"))


def request_options(remote_options: Any) -> RequestOptions:
    """Returns what `remote_options`, a dict or None, stands for.

    Raises:
        ArgumentError: It is no dict, has other keys, or a value is not valid.
    """
    if remote_options is None:
        return DEFAULTS
    names = [field.name for field in fields(RequestOptions)]
    if not isinstance(remote_options, Mapping):
        raise ArgumentError(
            f"`remote_options` must be a dict with keys of {', '.join(names)}. "
            f"Received: a {type(remote_options).__name__}"
        )
    for name in remote_options:
        if name not in names:
            raise ArgumentError(  # which may be a password that was meant for fsspec: no value
                f"`remote_options` has the keys {', '.join(names)}; arguments of fsspec go into "
                f"`storage_options`. Received: the key {name!r}"
            )
    return replace(DEFAULTS, **remote_options)


def _check_seconds(name: str, value: Any) -> None:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise ArgumentError(
            f'`remote_options["{name}"]` must be a number of seconds, more than 0. '
            f"Received: {value!r}"
        )


DEFAULTS = RequestOptions()
