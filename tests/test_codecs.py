"""The table of codecs: one entry is all that a codec needs."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from filters_helpers import CHUNK, GZIP, SHUFFLE_2, decoded

from h5video_data.storage.codecs import CODECS, COMPRESSIONS, Codec
from h5video_data.storage.filters import encode_chunk, undecodable
from h5video_data.storage.layout import Filter


def test_a_codec_is_one_entry(monkeypatch):
    def decode(params, data, target):
        target[:] = np.frombuffer(data, np.uint8) ^ params[0]
        return target

    inverted = Filter(300, "xor", (0xFF,))
    filters = [SHUFFLE_2, inverted, GZIP]
    assert inverted in undecodable(filters)
    codec = Codec(id=300, name="xor", decode=decode, added_nbytes=lambda _: 0)
    monkeypatch.setitem(CODECS, 300, codec)
    assert undecodable(filters) == []
    shuffled = np.frombuffer(CHUNK, np.uint8).reshape(-1, 2).T
    assert decoded(filters, 0, zlib.compress(bytes(~shuffled.ravel())), 16) == CHUNK


def test_only_codecs_that_this_package_encodes_are_encoded_by_it():
    values = np.zeros(1000, "<i4")
    for name, codec in COMPRESSIONS.items():
        if codec.encode is None:
            assert codec.plugin is not None
            with pytest.raises(ValueError, match=f"HDF5 has to encode {name}"):
                encode_chunk(name, values)
            continue
        stored, mask = encode_chunk(name, values)
        filters = [Filter(2, "shuffle", (4,)), Filter(codec.id, name, (4,))]
        assert decoded(filters, mask, stored, values.nbytes) == values.tobytes()
