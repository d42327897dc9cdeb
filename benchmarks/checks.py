"""Whether what was delivered is what the file holds: checksums of samples with their labels."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .files import open_file

# Bytes that are read at once to compute the file's checksums.
BLOCK_BYTES = 256 << 20


class WrongSamplesError(Exception):
    """A contender delivered something else than the samples of the file."""


def digests(clips: Any, labels: Any) -> list[int]:
    """A checksum of each sample of a batch, over all its bytes and those of its label.

    Args:
        clips: An array or a tensor, (batch, ...).
        labels: The same, (batch, ...).
    """
    x, y = _in_native_order(clips), _in_native_order(labels)
    if len(x) != len(y):
        raise WrongSamplesError(f"a batch of {len(x)} samples has {len(y)} labels")
    return [_digest(x[i], y[i]) for i in range(len(x))]


def _in_native_order(values: Any) -> Any:
    array = np.ascontiguousarray(values)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _digest(clip: Any, label: Any) -> int:
    checksum = hashlib.blake2b(clip.tobytes(), digest_size=6)
    checksum.update(label.tobytes())
    return int.from_bytes(checksum.digest(), "little")


def stored_digests(path: str, num_samples: int) -> list[int]:
    """The checksums of the first samples of a file, in its order, read by h5py."""
    with open_file(path) as file:
        X, Y = file["X"], file["Y"]
        slab = X.chunks[0] if X.chunks else 1
        row_bytes = X.dtype.itemsize * int(np.prod(X.shape[1:], dtype=np.int64))
        block = slab * max(1, BLOCK_BYTES // max(1, slab * row_bytes))
        found: list[int] = []
        for first in range(0, num_samples, block):
            rows = slice(first, min(first + block, num_samples))
            found += digests(X[rows], Y[rows])
        return found


def compare(delivered: Sequence[int], stored: Sequence[int], *, is_whole_epoch: bool) -> None:
    """Raises unless samples are those of the file, each once, in another order than the file's.

    Args:
        delivered: Checksums in the order of delivery.
        stored: The file's, in its order.
        is_whole_epoch: Whether each sample of the file must have come. Otherwise the epoch was
            broken off.

    Raises:
        WrongSamplesError: Says how many samples are missing, repeated or not the file's.
    """
    expected, found = Counter(stored), Counter(delivered)
    changed = sum(count for digest, count in found.items() if digest not in expected)
    repeated = sum((found - expected).values()) - changed
    missing = sum((expected - found).values()) if is_whole_epoch else 0
    faults = [
        f"{count} {text}"
        for count, text in (
            (changed, "are not in the file, or changed"),
            (repeated, "came more than once"),
            (missing, "did not come"),
        )
        if count
    ]
    if faults:
        raise WrongSamplesError(
            f"wrong samples were delivered: of {len(delivered)} ({len(stored)} in the file), "
            + ", ".join(faults)
        )
    if len(found) > 3 and list(delivered) == list(stored[: len(delivered)]):
        raise WrongSamplesError("the samples came in the order of the file: not shuffled")
