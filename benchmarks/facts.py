"""What is to be known of a file before it is measured."""

from __future__ import annotations

import math
from typing import Any

import h5py

from h5video_data.storage.layout import describe

from .files import open_file
from .settings import Settings, UsageError

# Of a file that is given, the first samples take part: not more bytes than these.
MAX_FILE_BYTES = 4 << 30


def read_facts(layout: str, path: str, settings: Settings) -> tuple[dict[str, Any], int]:
    """What the table says about a file, and how many samples take part."""
    try:
        file = open_file(path)
    except OSError as error:
        raise UsageError(f"{path}: {error}") from error
    with file:
        for name in ("X", "Y"):
            if not isinstance(file.get(name), h5py.Dataset):
                raise UsageError(f"{path}: there should be a dataset {name!r}, (samples, ...)")
        X, Y = file["X"], file["Y"]
        if X.ndim < 2 or len(X) != len(Y) or not len(X):
            raise UsageError(f"{path}: X and Y should be (samples, ...), as many in both")
        row_bytes = math.prod(X.shape[1:]) * X.dtype.itemsize
        default = max(2 * settings.batch_size, MAX_FILE_BYTES // row_bytes)
        count = int(file.attrs.get("sample_count", len(X)))
        if settings.file or settings.num_samples:
            count = min(count, settings.num_samples or default)
        # All contenders drop the last, smaller batch in the same way: by not having it.
        num_samples = count // settings.batch_size * settings.batch_size
        if num_samples < 2 * settings.batch_size:
            raise UsageError(
                f"{path}: an epoch should have two batches at the least. Received: {count} samples "
                f"that take part, batch size {settings.batch_size}"
            )
        return {
            "layout": layout,
            "file": path,
            "num_samples": num_samples,
            "num_stored_samples": len(X),
            "sample_shape": X.shape[1:],
            "dtype": str(X.dtype),
            "sample_bytes": row_bytes,
            "chunks": X.chunks,
            "filters": filter_names(path),
            "stored_share": X.id.get_storage_size() / (len(X) * row_bytes),
            "has_single_samples": X.chunks is None or X.chunks[0] == 1,
            "batch_size": settings.batch_size,
            "is_cold": settings.cold,
        }, num_samples


def filter_names(path: str) -> str:
    """The filters of `X`, as people call them."""
    with open_file(path) as file:
        filters = describe(file["X"]).filters
    return "+".join(_NAMES.get(item.id, item.name) for item in filters)


_NAMES = {
    1: "gzip",
    2: "shuffle",
    3: "fletcher32",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32015: "zstd",
    32026: "blosc2",
}
