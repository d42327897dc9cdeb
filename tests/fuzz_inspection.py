"""Inspects a small file of all kinds of things, of which a few bytes are changed each time.

    python fuzz_inspection.py CONTENT LIBVER FIRST LAST

CONTENT is `samples`, with things of all kinds beside them, or `recordings`.

Prints the errors that are none of the package's, and the seeds at which the process died.
"""

import json
import os
import random
import signal
import sys

import h5py
import numpy as np

import h5video_data as h5v


def write_samples(path, libver):
    """Writes a file of all kinds of things."""
    with h5py.File("other.h5", "w") as file:
        file["V"] = np.ones((4, 6))
    with h5py.File(path, "w", libver=libver) as file:
        group = file.create_group("a/b")
        group.attrs["note"], group.attrs["numbers"] = "text", [1, 2, 3]
        file.attrs["sample_count"], file.attrs["class_names"] = 4, ["x", "y"]
        options = {"chunks": (1, 3, 5, 4), "compression": "gzip", "shuffle": True}
        file.create_dataset("X", data=np.ones((4, 3, 5, 4), "u1"), **options)
        file.create_dataset("a/C", data=np.ones((4, 6)), maxshape=(None, 6), chunks=(2, 3))
        file["Y"], file["names"] = np.eye(4, dtype="f4"), ["a", "b", "c", "d"]
        file.create_dataset("pairs", data=np.zeros(4, [("a", "i4"), ("b", "S5")]))
        file["soft"], file["nowhere"] = h5py.SoftLink("/a/C"), h5py.SoftLink("/no")
        file["external"], file["hard"] = h5py.ExternalLink("other.h5", "/V"), file["a"]
        layout = h5py.VirtualLayout((8, 6), "f8")
        layout[:4] = h5py.VirtualSource(".", "a/C", (4, 6))
        layout[4:] = h5py.VirtualSource("other.h5", "V", (4, 6))
        file.create_virtual_dataset("V", layout, fillvalue=1)
        file.create_dataset("raw", (4, 3), "u1", external=[("raw.bin", 0, 12)])[...] = 3
        file.create_dataset("swapped", (4, 2), ">i4", fillvalue=3)


def write_recordings(path, libver):
    """Writes a file whose datasets of bounds are read, in turns: none but the last one fits."""
    lengths = [6, 9, 5]
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset("pixels", data=np.ones((20, 6, 7, 3), "u1"), chunks=(1, 6, 7, 3))
        file["action"], file["ep_offset"] = np.ones((20, 2)), [1, 2, 3]
        gzip = {"compression": "gzip", "shuffle": True}
        file.create_dataset("ep_len", data=[6, 9, 4], chunks=(2,), maxshape=(None,), **gzip)
        file.create_dataset("ep_end", data=[6.0, 15.5, 20.0], fletcher32=True, chunks=(3,))
        layout = h5py.VirtualLayout((3,), "i8")
        layout[:] = h5py.VirtualSource(".", "ep_offset", (3,))
        file.create_virtual_dataset("ep_start", layout)
        file["episode"] = np.repeat(["a", "b", "c"], lengths).astype(object)


WRITERS = {"samples": write_samples, "recordings": write_recordings}


def damaged(whole, seed):
    """The bytes of a file, with some of them changed."""
    draw, data = random.Random(seed), bytearray(whole)
    for _ in range(draw.choice([1, 1, 1, 2, 4, 16])):
        place = draw.randrange(len(data))
        flipped = data[place] ^ (1 << draw.randrange(8))
        data[place] = draw.choice([0, 255, draw.randrange(256), flipped])
    return data


def inspect(path, whole, seeds, report):
    """Inspects damaged files; a process of its own, which HDF5 may end."""
    for seed in seeds:
        os.write(report, b"%d\n" % seed)
        signal.alarm(10)
        with open(path, "wb") as file:
            file.write(damaged(whole, seed))
        try:
            found = h5v.inspect(path)
            json.dumps(found.to_dict())
            str(found)
        except h5v.H5VideoError:
            pass
        except Exception as error:
            print(f"foreign {seed}: {type(error).__name__}: {error}", flush=True)


def main(content, libver, first, last):
    """Inspects one file for each seed."""
    WRITERS[content]("whole.h5", libver)
    print(f"whole: {h5v.inspect('whole.h5').call}")
    with open("whole.h5", "rb") as file:
        whole = file.read()
    while first < last:
        end, report = os.pipe()
        child = os.fork()
        if not child:
            inspect("damaged.h5", whole, range(first, last), report)
            os._exit(0)
        os.close(report)
        with os.fdopen(end, "rb") as lines:
            seeds = lines.read().split()
        _, status = os.waitpid(child, 0)
        if status:
            print(f"died {int(seeds[-1])}: {status}", flush=True)
        first = int(seeds[-1]) + 1


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
