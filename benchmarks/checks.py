"""Compares the samples that were delivered with the file's, by checksums of samples and labels."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .facts import open_file, sample_bytes

# Bytes that are read at once to compute the file's checksums.
BLOCK_BYTES = 256 << 20


class WrongSamplesError(Exception):
    """A contender delivered something else than the samples of the file."""


def digests(clips: Any, labels: Any) -> list[int]:
    """Computes a checksum of each sample of a batch, over all its bytes and those of its label."""
    arrays = [np.ascontiguousarray(values) for values in (clips, labels)]
    x, y = (array.astype(array.dtype.newbyteorder("="), copy=False) for array in arrays)
    if len(x) != len(y):
        raise WrongSamplesError(f"a batch of {len(x)} samples has {len(y)} labels")
    found = []
    for clip, label in zip(x, y, strict=True):
        checksum = hashlib.blake2b(clip.tobytes(), digest_size=6)
        checksum.update(label.tobytes())
        found.append(int.from_bytes(checksum.digest(), "little"))
    return found


def stored_digests(path: str, num_samples: int) -> list[int]:
    """Computes the checksums of the first samples of a file, in its order, read by h5py."""
    with open_file(path) as file:
        X, Y = file["X"], file["Y"]
        chunk = X.chunks[0] if X.chunks else 1
        size = chunk * max(1, BLOCK_BYTES // (chunk * sample_bytes(X)))
        blocks = [slice(k, min(k + size, num_samples)) for k in range(0, num_samples, size)]
        return [digest for rows in blocks for digest in digests(X[rows], Y[rows])]


def compare(delivered: Sequence[int], stored: Sequence[int], *, is_whole_epoch: bool) -> None:
    """Raises WrongSamplesError unless each sample came once, in another order than the file's.

    In an epoch that was stopped, samples may be missing.
    """
    expected, found = Counter(stored), Counter(delivered)
    changed = sum(count for digest, count in found.items() if digest not in expected)
    faults = {
        "are not in the file, or changed": changed,
        "came more than once": (found - expected).total() - changed,
        "did not come": (expected - found).total() if is_whole_epoch else 0,
    }
    if any(faults.values()):
        raise WrongSamplesError(
            f"wrong samples were delivered: of {len(delivered)} ({len(stored)} in the file), "
            + ", ".join(f"{count} {text}" for text, count in faults.items() if count)
        )
    if len(found) > 3 and list(delivered) == list(stored[: len(delivered)]):
        raise WrongSamplesError("the samples came in the order of the file: not shuffled")
