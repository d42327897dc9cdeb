"""What the tests of filters share with others."""

from __future__ import annotations

import h5py
import imagecodecs
import numpy as np

from h5video_data.storage.filters import decode_chunk
from h5video_data.storage.layout import Filter

GZIP = Filter(1, "deflate", (4,))
SHUFFLE = Filter(2, "shuffle", (4,))
FLETCHER = Filter(3, "fletcher32", ())
LZF = Filter(32000, "lzf", (4, 261, 64))
LZ4 = Filter(32004, "LZ4", ())
BLOSC = Filter(32001, "blosc", (2, 2, 1, 16))
ZSTD = Filter(32015, "zstd", ())
BLOSC_CHUNK = imagecodecs.blosc_encode(bytes(range(16)))
CHUNK = bytes(range(16))
SHUFFLE_2 = Filter(2, "shuffle", (2,))


def stored_chunk(data, **options):
    """The filters, mask and bytes that h5py makes of an array which is one chunk."""
    with h5py.File("chunk.h5", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("X", data=data, chunks=data.shape, **options)
        mask, stored = dataset.id.read_direct_chunk((0,) * data.ndim)
        plist = dataset.id.get_create_plist()
        filters = []
        for number in range(plist.get_nfilters()):
            code, _, params, name = plist.get_filter(number)
            filters.append(Filter(code, name.decode(), tuple(params)))
        return filters, mask, stored


def decoded(filters, mask, stored, num_bytes):
    out = np.full(num_bytes, 0xA5, np.uint8)
    decode_chunk(filters, mask, stored, out)
    return out.tobytes()
