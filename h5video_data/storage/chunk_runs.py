"""Decodes many chunks in one call, with the compiled helper `_chunk_runs`, where it was built.

Decoding chunk after chunk takes the interpreter's lock between any two of them. Of small chunks
that is much of the time, and threads of many processors wait for each other. The helper takes it
once for all. It has no codec: it is given the addresses of functions of imagecodecs's libraries.

Nothing depends on it. Without a compiler the package is installed without it, and where functions
are not found, as in a build of imagecodecs that hides them, chunks are decoded one by one.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

try:
    from . import _chunk_runs
except ImportError:  # not built
    HAS_HELPER = False
else:
    HAS_HELPER = True

Bytes = NDArray[np.uint8]
Positions = NDArray[np.int64]


class RunCodec(NamedTuple):
    """A codec that decodes runs of chunks."""

    name: str
    """Its name in the helper."""
    module: str
    """The module of imagecodecs that has the library."""
    decode: str
    """The library's function."""
    begin: str | None = None
    """Makes what the calls of one run share."""
    end: str | None = None
    """Frees that."""


@functools.cache
def _functions(codec: RunCodec) -> tuple[int, int, int] | None:
    """Returns the addresses of a codec's functions, 0 for those it has not; None: not found."""
    try:
        # A symbol is looked for in the libraries of the module, too.
        library = ctypes.CDLL(importlib.import_module(f"imagecodecs.{codec.module}").__file__)
        decode, begin, end = (
            ctypes.cast(library[name], ctypes.c_void_p).value if name else 0
            for name in (codec.decode, codec.begin, codec.end)
        )
    except (ImportError, OSError, AttributeError):
        return None
    return decode or 0, begin or 0, end or 0


def can_decode(codec: RunCodec) -> bool:
    """Returns whether `decode_run` has this codec here."""
    return HAS_HELPER and _functions(codec) is not None


def decode_run(
    codec: RunCodec,
    data: Bytes,
    starts: Positions,
    sizes: Positions,
    target: Bytes,
    places: Positions,
    nbytes: int,
) -> int:
    """Decodes chunks, of which none needs more than this one codec. Holds no lock meanwhile.

    Args:
        codec: One that `can_decode`.
        data: uint8 (m,), contiguous, holds the encoded chunks.
        starts: int64 (n,), n >= 1, where each begins there.
        sizes: int64 (n,), how many bytes it has.
        target: uint8 (k,), contiguous.
        places: int64 (n,), where each goes there.
        nbytes: Bytes of a decoded chunk, at least 1.

    Returns:
        How many were decoded before the first that is damaged, decodes to another number of bytes,
        or is not as most are in another way. `filters.decode_chunk` may decode that one.
    """
    functions = _functions(codec)
    fits = (
        data.flags.c_contiguous
        and target.flags.c_contiguous
        and target.flags.writeable
        and len(starts) == len(sizes) == len(places)
        and min(starts.min(), sizes.min(), places.min(), nbytes - 1) >= 0
        and (sizes <= len(data) - starts).all()  # sums might be too large for their type
        and places.max() <= len(target) - nbytes
    )
    if functions is None or not fits:
        raise ValueError(f"chunks outside of their arrays, or no such codec: {codec.name}")
    starts, sizes, places = (
        np.ascontiguousarray(item, np.int64) for item in (starts, sizes, places)
    )
    return _chunk_runs.decode(
        codec.name,
        functions,
        data.ctypes.data,
        starts.ctypes.data,
        sizes.ctypes.data,
        target.ctypes.data,
        places.ctypes.data,
        nbytes,
        len(starts),
    )
