"""How `repack` stores samples, and the arguments that say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from h5video_data.arguments import check_choice
from h5video_data.errors import ArgumentError
from h5video_data.storage.codecs import COMPRESSIONS
from h5video_data.storage.decoders import Data
from h5video_data.storage.filters import encode_chunk, sample_chunks
from h5video_data.storage.picture_rows import StoredPictures
from h5video_data.tools.packing.encoded_rows import Encoding
from h5video_data.tools.packing.output_arguments import checked_encoding
from h5video_data.video_set import VideoSet

from .sample_forms import SampleForm

LAYOUTS = (None, "contiguous", "sample-chunks", "recordings")

Encode = Callable[[NDArray[Any]], tuple[Data, int]]
"""From a sample to the bytes of its chunk, and their filter mask."""


@dataclass(frozen=True)
class SampleLayout:
    """How samples are stored.

    Attributes:
        compression: Each is in a chunk of its own, compressed so.
        level: Of the compression.
        has_chunks: Whether each is in a chunk of its own.
        encoding: Each is an encoded picture.
    """

    compression: str | None = None
    level: int | None = None
    has_chunks: bool = False
    encoding: Encoding | None = None

    @property
    def is_contiguous(self) -> bool:
        """Whether samples lie end to end."""
        return not (self.has_chunks or self.encoding is not None)

    @property
    def signature(self) -> list[Any]:
        """What the bytes of samples depend on; how encoded rows are kept is decided later."""
        item = self.encoding
        codec = None if item is None else [item.codec, item.quality]
        return [self.compression, self.level, self.has_chunks, codec]

    def options(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Any]:
        """Returns the arguments of h5py's `create_dataset` for chunks of a sample; may raise."""
        if not self.has_chunks:
            return {}
        return sample_chunks(shape, dtype.itemsize, self.compression, self.level)

    def encoder(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Encode:
        """Returns what encodes a sample (1, ...) as HDF5 would, with that layout's filters."""
        name = self.compression
        if name is None:
            return lambda values: (np.ascontiguousarray(values).reshape(-1).view(np.uint8), 0)
        if COMPRESSIONS[name].encode is None:
            return _EncoderOfHDF5(shape, dtype, self.options(shape, dtype))
        return lambda values: encode_chunk(name, values, self.level)

    @property
    def is_encoded_by_hdf5(self) -> bool:
        """Whether HDF5 alone has the encoder, which takes its lock."""
        return self.compression is not None and COMPRESSIONS[self.compression].encode is None

    def check(self, video_set: VideoSet, form: SampleForm) -> None:
        """Raises an ArgumentError if the datasets cannot be stored so."""
        for item in video_set.components:
            part, shape, dtype = item.parts[0], form.shape_of(item), form.dtype_of(item)
            if self.encoding is None:
                sample_chunks(shape, dtype.itemsize, self.compression, self.level)
                continue
            self.encoding.check(item.name, shape, dtype)
            codec = part.codec if isinstance(part, StoredPictures) else None
            if codec == self.encoding.codec and not form.changes:
                raise ArgumentError(
                    f"{part.path}: {item.name!r} holds frames that are {codec.upper()} "
                    f"already. Received: codec={self.encoding.codec!r}"
                )


class _EncoderOfHDF5:
    """Has HDF5 encode chunks, in a file in memory."""

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], options: Mapping[str, Any]
    ) -> None:
        self._file = h5py.File(f"{id(self)}", "w", driver="core", backing_store=False)
        self._dataset = self._file.create_dataset("X", (1, *shape), dtype, **options)

    def __call__(self, values: NDArray[Any]) -> tuple[Data, int]:
        with phil:
            self._dataset[...] = values
            mask, data = self._dataset.id.read_direct_chunk((0,) * self._dataset.ndim)
        return data, mask


def checked_layout(
    *,
    compression: Any,
    level: Any,
    codec: Any,
    quality: Any,
    rows: Any,
    chunks: Any,
    layout: Any,
) -> SampleLayout:
    """Checks the arguments of these names; may raise ArgumentErrors."""
    encoding = checked_encoding(
        codec, quality, rows, compression=compression, compressions=COMPRESSIONS
    )
    check_choice("chunks", chunks, None, "sample")
    check_choice("layout", layout, *LAYOUTS)
    if layout == "contiguous" and (compression is not None or chunks is not None):
        raise ArgumentError(
            "Contiguous samples are neither compressed nor in chunks. Received: "
            f"layout='contiguous', compression={compression!r}, chunks={chunks!r}"
        )
    if encoding is not None and level is not None:
        raise ArgumentError(
            "`level` is that of a compression; a JPEG has a `quality`. "
            f"Received: codec={codec!r}, level={level}"
        )
    if encoding is not None and (chunks is not None or layout not in (None, "recordings")):
        raise ArgumentError(
            "Encoded frames are rows of bytes, without chunks. Received: "
            f"codec={codec!r}, layout={layout!r}, chunks={chunks!r}"
        )
    has_chunks = compression is not None or chunks is not None or layout == "sample-chunks"
    return SampleLayout(compression, level, has_chunks, encoding)
