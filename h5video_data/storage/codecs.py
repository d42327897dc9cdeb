"""Table of the HDF5 filters that this package decodes itself, and of those that `repack` writes.

To add a codec, add one entry to `CODECS`: the reader, `repack`, `pack` and the command line all use
this table. Scale-offset, nbit, szip and filters of other plugins are left to HDF5. All codecs here
release the GIL: two threads decode 1.7 to 2.0 times as fast as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imagecodecs import deflate_encode, lzf_encode

from . import blosc, decoders
from .chunk_runs import RunCodec, can_decode
from .decoders import CHECKSUM_NBYTES, Bytes, Data, Params

# The level of deflate, 1 to 9. On image-like bytes, imagecodecs' deflate at 4 is 2.4 times as fast
# as HDF5's, and its result smaller.
DEFLATE_LEVEL = 4


@dataclass(frozen=True)
class Codec:
    """One HDF5 filter.

    Attributes:
        id: Registered number of the filter: HDF5's H5Zpublic.h, and the HDF Group's list of
            registered filter plugins.
        name: Name of the filter; for one that can be written, the `compression` argument of
            `repack`.
        decode: Decodes a chunk; see `decoders`.
        added_nbytes: Given the filter's parameters, returns how many bytes encoding adds: 0 for a
            permutation, 4 for a checksum; None: any number, for a compressor.
        is_valid: Given the filter's parameters, returns whether `decode` handles them. Others are
            left to HDF5, which raises an error in nearly all cases.
        run: The same for many chunks in one call, if there is a library's function for it.
        encode: Encodes a chunk at a level (None: the default one); None: HDF5 encodes it.
        options: Arguments of h5py's `create_dataset` for a dataset with this filter.
        plugin: Class of hdf5plugin that makes such arguments instead.
        shuffles: Whether the codec shuffles bytes itself, and so needs no shuffle filter before it.
        levels: The levels of compression that it has.
        level_name: What `options`, or the plugin, call the level.
    """

    id: int
    name: str
    decode: Callable[[Params, Data, Bytes], Data]
    added_nbytes: Callable[[Params], int | None] = lambda _: None
    is_valid: Callable[[Params], bool] = lambda _: True
    run: RunCodec | None = None
    encode: Callable[[Data, int | None], bytes] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    plugin: str | None = None
    shuffles: bool = False
    levels: range = range(0)
    level_name: str = ""


CODECS = {
    codec.id: codec
    for codec in (
        Codec(
            id=2,
            name="shuffle",
            decode=decoders.shuffle,
            added_nbytes=lambda _: 0,
            is_valid=lambda params: len(params) == 1 and params[0] > 0,
        ),
        Codec(
            id=3,
            name="fletcher32",
            decode=decoders.fletcher32,
            added_nbytes=lambda _: CHECKSUM_NBYTES,
        ),
        Codec(
            id=1,
            name="gzip",
            decode=decoders.deflate,
            is_valid=lambda params: len(params) == 1 and params[0] <= 9,
            run=RunCodec(
                "deflate",
                "_deflate",
                "libdeflate_zlib_decompress",
                "libdeflate_alloc_decompressor",
                "libdeflate_free_decompressor",
            ),
            encode=lambda data, level: deflate_encode(data, level=level or DEFLATE_LEVEL),
            options={"compression": "gzip", "compression_opts": DEFLATE_LEVEL},
            levels=range(1, 10),
            level_name="compression_opts",
        ),
        Codec(
            id=32000,
            name="lzf",
            decode=decoders.lzf,
            run=RunCodec("lzf", "_lzf", "lzf_decompress"),
            encode=lambda data, _: lzf_encode(data, header=False),
            options={"compression": "lzf"},
        ),
        Codec(
            id=32015,
            name="zstd",
            decode=decoders.zstd,
            run=RunCodec(
                "zstd", "_zstd", "ZSTD_decompressDCtx", "ZSTD_createDCtx", "ZSTD_freeDCtx"
            ),
            plugin="Zstd",
            levels=range(1, 23),
            level_name="clevel",
        ),
        Codec(
            id=32004,
            name="lz4",
            decode=decoders.lz4,
            run=RunCodec("lz4", "_lz4", "LZ4_decompress_safe"),
            plugin="LZ4",
        ),
        Codec(
            id=32001,
            name="blosc",
            decode=blosc.blosc,
            run=RunCodec("blosc", "_blosc", "blosc_decompress_ctx"),
            plugin="Blosc",
            shuffles=True,
            levels=range(10),
            level_name="clevel",
        ),
        Codec(
            id=32008,
            name="bitshuffle",
            decode=decoders.bitshuffle,
            added_nbytes=lambda params: None if decoders.bitshuffle_params(params)[2] else 0,
            is_valid=decoders.is_valid_bitshuffle,
            plugin="Bitshuffle",
            shuffles=True,
        ),
        Codec(id=32026, name="blosc2", decode=blosc.blosc2, is_valid=blosc.is_valid_blosc2),
    )
}
"""By registered number."""

COMPRESSIONS = {codec.name: codec for codec in CODECS.values() if codec.encode or codec.plugin}
"""The codecs that `repack` writes, by name."""

BUILT_IN_COMPRESSIONS = tuple(name for name, codec in COMPRESSIONS.items() if not codec.plugin)
"""The names of those that need no plugin, which `pack` writes."""

for _codec in CODECS.values():
    if _codec.run is not None:
        can_decode(_codec.run)  # finds its functions now: no import while another thread forks
