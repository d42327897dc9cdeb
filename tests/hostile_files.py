"""Small files of all layouts, and ways to damage them where a reader has to look.

A damaged file keeps the checksums of its metadata right, mostly: HDF5 would refuse it otherwise,
before anything is read by them.
"""

from __future__ import annotations

import dataclasses
import re
import struct
import zlib
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from fuzz_pictures import changed
from imagecodecs import h5checksum_lookup3
from picture_rows_helpers import FORMS, jpeg, png

from h5video_data.storage.layout import describe

SHAPE = (6, 2, 8, 9)
ONE = (1, *SHAPE[1:])
GZIP = {"chunks": ONE, "compression": "gzip"}
LATEST = {"libver": "latest"}
ROWS = [jpeg(i, (12, 16)) if i % 3 else png(i, (12, 16)) for i in range(9)]


@dataclasses.dataclass
class Whole:
    """A file before it is damaged, and where in it a reader has to look."""

    content: bytes
    options: dict[str, Any]
    """Those of a `VideoLoader`."""
    kind: str
    chunks: list[tuple[int, int]]
    """Offset and size of what is stored of values."""
    metadata: list[int]
    """Offsets of the other bytes, but for long runs of zeros."""
    fields: list[tuple[int, int]]
    """Offset and width of numbers that are addresses, sizes and lengths."""
    checked: list[tuple[int, int]]
    """Begin and end of metadata; behind that, 4 bytes of their checksum."""


def stacked(file, dtype="u1", shape=SHAPE, **options):
    """Samples, of which the last one is not written, and labels."""
    dataset = file.create_dataset("X", shape, dtype, **options)
    dataset[:5] = np.arange(5 * 144).reshape(5, *SHAPE[1:]) % 251
    file.create_dataset("Y", data=np.eye(6, 3, dtype="f4"), chunks=(2, 3))
    file.attrs["sample_count"] = 6


def recordings(file, **options):
    frames = np.arange(20 * 24).reshape(20, 4, 6) % 251
    file.create_dataset("pixels", data=frames.astype("u1"), **options)
    file.create_dataset("ep_len", data=[6, 9, 5], chunks=(2,), maxshape=(None,))


def virtual(file):
    layout = h5py.VirtualLayout(SHAPE, "u1")
    for number in range(6):
        layout[number] = h5py.VirtualSource("other.h5", f"part{number}", SHAPE[1:])
    file.create_virtual_dataset("X", layout, fillvalue=7)


def write_other(path):
    """Writes the file whose values are in virtual datasets."""
    with h5py.File(path, "w") as file:
        for number in range(6):
            file[f"part{number}"] = np.full(SHAPE[1:], number, "u1")


ARRAY = np.dtype(("<u2", SHAPE[2:]))
WINDOWS = {"x": "pixels", "windows": 3, "y": None}
# name: how the file is opened, what writes it, with which arguments, and how it is read.
KINDS: dict[str, tuple[dict[str, Any], Any, dict[str, Any], dict[str, Any]]] = {
    "contiguous": ({}, stacked, {}, {}),
    "chunked": ({}, stacked, {"chunks": ONE}, {}),
    "gzip": ({}, stacked, {**GZIP, "shuffle": True, "dtype": "<u4"}, {}),
    "lzf fletcher32": (
        {},
        stacked,
        {"chunks": (1, 1, 8, 9), "compression": "lzf", "fletcher32": True},
        {},
    ),
    "many": ({}, stacked, {"chunks": (4, 1, 8, 5), "compression": "gzip"}, {}),
    "many, plain": ({}, stacked, {"chunks": (2, 2, 8, 4), "dtype": ">i2", "fillvalue": 4}, {}),
    "array type": ({}, stacked, {"shape": SHAPE[:2], "dtype": ARRAY, "chunks": (1, 2)}, {}),
    "userblock": ({"userblock_size": 512}, stacked, {"chunks": (1, 2, 8, 5)}, {}),
    "zstd": ({}, stacked, {"chunks": ONE, **hdf5plugin.Zstd()}, {}),
    "lz4": ({}, stacked, {"chunks": ONE, **hdf5plugin.LZ4(nbytes=64)}, {}),
    "blosc": ({}, stacked, {"chunks": ONE, **hdf5plugin.Blosc(cname="zstd")}, {}),
    "blosc2": ({}, stacked, {"chunks": ONE, **hdf5plugin.Blosc2()}, {}),
    "bitshuffle": ({}, stacked, {"chunks": ONE, **hdf5plugin.Bitshuffle(nelems=16)}, {}),
    "szip": ({}, stacked, {"chunks": ONE, "compression": "szip"}, {}),
    "scaleoffset": ({}, stacked, {"chunks": ONE, "scaleoffset": 8}, {}),
    "single chunk": (LATEST, stacked, {"chunks": SHAPE, "compression": "gzip"}, {}),
    "implicit": (LATEST, stacked, {"chunks": (1, 2, 8, 5)}, {}),
    "fixed array": (LATEST, stacked, GZIP, {}),
    "extensible array": (
        LATEST,
        stacked,
        {"chunks": (1, 1, 8, 9), "maxshape": (6, None, 8, 9), "compression": "gzip"},
        {},
    ),
    "B-tree 2": (LATEST, stacked, {"chunks": (1, 1, 8, 9), "maxshape": (None, None, 8, 9)}, {}),
    "virtual": ({}, lambda file, **_: virtual(file), {}, {"y": None}),
    "windows": ({}, recordings, {"chunks": (3, 4, 6), "compression": "gzip"}, WINDOWS),
    "bounds": ({}, recordings, {}, {**WINDOWS, "windows": "bounds"}),
    "heap": ({}, lambda f: FORMS["variable"](f, "X", ROWS, chunks=(4,)), {}, {"y": None}),
    "heap, new": (LATEST, lambda f: FORMS["variable opaque"](f, "X", ROWS), {}, {"y": None}),
    "strings": ({}, lambda f: FORMS["strings"](f, "X", ROWS, chunks=(1,)), {}, {"y": None}),
    "padded": (
        {},
        lambda f: FORMS["padded"](f, "X", ROWS, chunks=(2,), compression="gzip"),
        {},
        {"y": None, "decode": "image"},
    ),
}


def write(kind, path):
    """Writes a file of one kind, and looks at it."""
    opened, writer, arguments, options = KINDS[kind]
    with h5py.File(path, "w", **opened) as file:
        writer(file, **arguments)
    content = path.read_bytes()
    with h5py.File(path) as file:
        dataset = file[options.get("x", "X")]
        shape, chunk_shape = dataset.shape, dataset.chunks or ()
        chunks = stored_ranges(dataset, content)
    is_metadata = np.ones(len(content), bool)
    for offset, size in chunks:
        is_metadata[offset : offset + size] = False
    values = np.frombuffer(content, np.uint8)
    # Most of a small file is room for more metadata.
    is_near = np.convolve((values != 0) & is_metadata, np.ones(9), "same") > 0
    heaps = [match.start() for match in re.finditer(b"GCOL", content)]
    numbers = {value for chunk in chunks for value in chunk} | {*shape, *chunk_shape, *heaps}
    fields = {
        (match.start(), width)
        for number in numbers - {0}
        for width in (4, 8)
        for match in re.finditer(re.escape(number.to_bytes(width, "little")), content)
        if is_metadata[match.start()]
    }
    metadata = np.flatnonzero(is_metadata & is_near).tolist()
    return Whole(content, options, kind, chunks, metadata, sorted(fields), checksums(content))


def stored_ranges(dataset, content):
    if dataset.dtype.kind == "O":  # rows in the global heap, whose bytes are these
        found = (content.find(row) for row in ROWS)
        return [(offset, len(row)) for offset, row in zip(found, ROWS, strict=True)]
    element = None
    if dataset.dtype.kind == "S":
        element = np.dtype("u1"), (dataset.dtype.itemsize,)
    stored = describe(dataset, element=element)
    pairs = zip(stored.offsets.tolist(), stored.sizes.tolist(), strict=True)
    return [(offset, size) for offset, size in pairs if offset >= 0]


SIGNATURES = b"OHDR|OCHK|FAHD|FADB|EAHD|EAIB|EASB|EADB|BTHD|BTLF|BTIN|FRHP|FHDB|\x89HDF\r\n\x1a\n"


def checksums(content):
    """Finds what has a checksum of Jenkins's behind it, which new versions of metadata have."""
    found = []
    for match in re.finditer(SIGNATURES, content):
        begin = match.start()
        for end in range(begin + 8, min(begin + 5000, len(content) - 4)):
            stored = int.from_bytes(content[end : end + 4], "little")
            if stored and h5checksum_lookup3(content[begin:end]) == stored:
                found.append((begin, end))
                break
    return found


# --------------------------------------------------------------------------- damage


def damaged(whole, rng):
    """Returns the bytes of a damaged file."""
    data = bytearray(whole.content)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        draw = rng.random()
        if draw < 0.3:
            change_byte(data, rng.choice(whole.metadata), rng)
        elif draw < 0.6 and whole.fields:
            change_field(data, whole, rng)
        elif draw < 0.65:
            place, source = (rng.choice(whole.metadata) for _ in range(2))
            data[place : place + 8] = data[source : source + 8]
        elif draw < 0.68:
            return data[: rng.randrange(len(data))]
        elif whole.chunks:
            change_stream(data, whole, rng)
    del data[len(whole.content) :]
    if rng.random() < 0.9:
        for begin, end in whole.checked:
            data[end : end + 4] = h5checksum_lookup3(bytes(data[begin:end])).to_bytes(4, "little")
    return data


def change_byte(data, place, rng):
    draw = rng.randrange(4)
    if draw == 0:
        data[place] ^= 1 << rng.randrange(8)
    elif draw == 1:
        data[place] = rng.choice([0, 255, rng.randrange(256)])
    elif draw == 2:
        data[place : place + 4] = rng.randbytes(4)
    else:
        data[place : place + 8] = rng.choice([b"\xff" * 8, bytes(8), rng.randbytes(8)])


def change_field(data, whole, rng):
    """Replaces an address, a size or a length by what a reader must not believe."""
    place, width = rng.choice(whole.fields)
    now = int.from_bytes(data[place : place + width], "little")
    others = [value for chunk in whole.chunks for value in chunk]
    number = rng.choice(
        [
            *(0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 10**15, 2**62, 2**63 - 1, 2**64 - 1),
            *(now + 1, now - 1, now + 8, 2 * now, now // 2, now + (1 << 32), len(data)),
            *(len(data) - 1, rng.randrange(len(data)), rng.choice([*others, 0])),
        ]
    )
    data[place : place + width] = (number % (1 << 8 * width)).to_bytes(width, "little")


def change_stream(data, whole, rng):
    """Changes what is stored of values: streams, their headers, pictures."""
    offset, size = rng.choice(whole.chunks)
    stream = bytes(data[offset : offset + size])
    draw = rng.randrange(7)
    if stream[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0") and draw < 4:
        stream = changed(stream, rng)[:size].ljust(size, b"\0")
    elif draw < 2:
        stream = bytearray(stream)
        change_byte(stream, rng.randrange(size), rng)
    elif draw == 2:  # the sizes that a header tells
        stream, place = bytearray(stream), rng.randrange(min(size, 40))
        number = rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, rng.randrange(2**32)])
        stream[place : place + 4] = struct.pack(rng.choice("<>") + "I", number)
    elif draw == 3:  # cut short
        kept = rng.randrange(size)
        stream = stream[:kept] + bytes(size - kept)
    elif draw == 4:  # that of another chunk
        other, length = rng.choice(whole.chunks)
        stream = bytes(data[other : other + length])
    elif draw == 5:  # one that decodes to a thousand times as much
        stream = zlib.compress(bytes(rng.choice([size * 900, 1 << 20, 1 << 14])))
    else:
        stream = rng.randbytes(size)
    stream = bytes(stream[:size])
    data[offset : offset + len(stream)] = stream
