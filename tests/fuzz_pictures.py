"""Decodes pictures that were changed: bytes overwritten, cut, inserted, fields enlarged.

    python fuzz_pictures.py FIRST LAST

Prints, as JSON, how many decoded, the errors that are no `PictureError`, the seeds at which the
process died or took longer than 10 s, and its memory in MiB beyond what it had at the beginning.
"""

import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import zlib

import numpy as np
from picture_helpers import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, jpegs, png, smooth

from h5video_data.storage.pictures.codecs import CHANNELS, PictureError, read_header
from h5video_data.storage.pictures.forms import form_of

SECONDS = 10


def pictures():
    """Returns one picture of each kind."""
    values = smooth(33, 29, 4)
    palette, few = values.reshape(-1, 4)[:16, :3], values[..., :1] >> 4
    pngs = [
        png(values[..., :1], GREY),
        png(values[..., :2], GREY_ALPHA, interlaced=True),
        png(values[..., :3], RGB, transparent=b"\0\1\0\2\0\3"),
        png(values.astype(np.uint16) * 251, RGBA, 16),
        png(values, RGBA, interlaced=True),
        png(few, PALETTE, 4, palette=palette, transparent=b"\0\1\2", interlaced=True),
        png(few, PALETTE, 8, palette=palette),
        png(few & 1, GREY, 1),
    ]
    return [*jpegs().values(), *pngs]


def with_checksums(data):
    """Returns a PNG whose chunks have right checksums, as far as they can be followed."""
    data, offset = bytearray(data), 8
    while offset + 12 <= len(data):
        stop = offset + 8 + int.from_bytes(data[offset : offset + 4], "big")
        if stop + 4 > len(data):
            break
        data[stop : stop + 4] = struct.pack(">I", zlib.crc32(data[offset + 4 : stop]))
        offset = stop + 4
    return bytes(data)


def changed(data, rng):
    """Returns a picture that was changed in one place or more."""
    is_png = data[:1] == b"\x89"
    for _ in range(rng.choice([1, 1, 1, 1, 2, 4])):
        data = bytearray(data)
        # As often in the first bytes, where the headers are.
        place = rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), 700))
        match rng.randrange(7):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                data[place] ^= 1 << rng.randrange(8)
            case 2:
                del data[place : place + rng.randint(1, 40)]
            case 3:
                data[place:place] = rng.randbytes(rng.randint(1, 40))
            case 4:
                data[place:] = bytes(rng.randrange(100))
            case 5:  # a part of it once more
                data[place:place] = data[rng.randrange(len(data)) :][: rng.randint(1, 600)]
            case _:  # fields of sizes and lengths
                at = rng.randrange(8, 30) if is_png else data.find(b"\xff", place) + 1
                number = rng.choice([0, 1, 255, 256, 2000, 65535, rng.randrange(1 << 16)])
                at += rng.randrange(10) if not is_png else 0
                data[at : at + 2] = struct.pack(">H", number)
        data = bytes(data) or b"\0"
    return with_checksums(data) if is_png and rng.random() < 0.8 else data


def decode(seed, kinds):
    """Decodes one changed picture; returns whether it did decode."""
    rng = random.Random(seed)
    data = changed(rng.choice(kinds), rng)
    signal.alarm(SECONDS)
    try:
        size = rng.choice([None, (20, 30)])
        mode = rng.choice([None, *CHANNELS])
        form = form_of(read_header(data), image_size=size, color_mode=mode)
        form.decode_into(data, np.empty(form.shape, form.dtype))
    except PictureError:
        return False
    finally:
        signal.alarm(0)
    return True


def run(first, last, shared, errors):
    """Decodes pictures in this process."""
    kinds, begun = pictures(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decoded = 0
    for seed in range(first, last):
        shared[:8] = struct.pack("<q", seed)
        try:
            decoded += decode(seed, kinds)
        except Exception as error:
            errors.write(json.dumps([seed, repr(error)]) + "\n")
            errors.flush()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun
        shared[8:24] = struct.pack("<qq", decoded, grown >> 10)


def main(first, last, errors):
    """Decodes pictures in processes, a new one after each that dies; `errors` is a file."""
    shared = mmap.mmap(-1, 24)
    result = {"decoded": 0, "errors": [], "died": [], "MiB": 0}
    while first < last:
        shared[:] = struct.pack("<qqq", first, 0, 0)
        process = os.fork()
        if process == 0:
            run(first, last, shared, errors)
            os._exit(0)
        status = os.waitpid(process, 0)[1]
        seed, decoded, grown = struct.unpack("<qqq", shared[:])
        result["decoded"] += decoded
        result["MiB"] = max(result["MiB"], grown)
        if status == 0:
            break
        result["died"].append([seed, status])
        first = seed + 1
    errors.seek(0)
    result["errors"] = [json.loads(line) for line in errors]
    print(json.dumps(result))


if __name__ == "__main__":
    with tempfile.TemporaryFile("w+") as file:
        main(int(sys.argv[1]), int(sys.argv[2]), file)
