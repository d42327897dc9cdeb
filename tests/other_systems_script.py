"""Reads, packs and repacks where calls are missing that only Linux, or only macOS, has: a script.

Its first argument is "macOS", "old macOS" or "Windows". The calls are hidden in a Linux process
before the package is imported: no system but Linux itself is tested. The second argument is
"dataset" to read by TensorFlow as well. Prints "right" if all values are those of h5py.
"""

import ctypes
import errno
import mmap
import os
import sys
from pathlib import Path

import h5py
import numpy as np

if __name__ == "__main__" and "dataset" in sys.argv:
    import tensorflow as tf  # noqa: F401 - finds its own calls before they are hidden

# What each of them lacks.
MACOS = ["sched_getaffinity", "posix_fadvise", "POSIX_FADV_WILLNEED"]
OLD_MACOS = [*MACOS, "preadv", "pwritev"]
WINDOWS = [
    *(*OLD_MACOS, "pread", "pwrite", "sysconf", "register_at_fork", "fork", "O_CLOEXEC"),
    *("getuid", "readv", "writev"),
]
MISSING = {"macOS": MACOS, "old macOS": OLD_MACOS, "Windows": WINDOWS}


class WindowsMemory(mmap.mmap):
    """Has the arguments that it has there, and no `madvise`."""

    def __new__(cls, fileno, length):
        return super().__new__(cls, fileno, length, mmap.ACCESS_WRITE)

    def __getattribute__(self, name):
        if name == "madvise":
            raise AttributeError(name)
        return super().__getattribute__(name)


class WindowsLibrary(ctypes.CDLL):
    def __init__(self, name, *args, **kwargs):
        if name is None:
            raise TypeError("bad argument type for built-in operation")
        super().__init__(name, *args, **kwargs)


def hide(system):
    for name in MISSING[system]:
        delattr(os, name)
    del errno.EUCLEAN
    del mmap.MADV_HUGEPAGE
    listdir = os.listdir

    def without_proc(path="."):
        if str(path).startswith("/proc" if system != "Windows" else ("/proc", "/dev")):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return listdir(path)

    os.listdir = without_proc
    if system == "Windows":
        os.O_BINARY = 0
        sys.modules["resource"] = sys.modules["fcntl"] = None
        for name in [name for name in dir(mmap) if name.startswith(("MAP_", "MADV_"))]:
            delattr(mmap, name)
        mmap.mmap = WindowsMemory
        ctypes.CDLL = WindowsLibrary


def check(loader, *names):
    """Compares an epoch with what h5py reads."""
    with h5py.File(loader._set.paths[0]) as file:
        expected = [file[name][()] for name in names]
    seen = 0
    for batch in loader:
        items = batch if isinstance(batch, tuple) else (batch,)
        numbers = np.asarray(items[-1]).argmax(-1)
        for item, values in zip(items, expected, strict=True):
            np.testing.assert_array_equal(np.asarray(item), values[numbers])
        seen += len(numbers)
    assert seen == len(expected[0]), seen


def write(path, **options):
    num, shape = 30, (8, 3, 16, 16)
    rng = np.random.default_rng(0)
    userblock_size = options.pop("userblock_size", 0)
    with h5py.File(path, "w", libver="latest", userblock_size=userblock_size) as file:
        values = rng.integers(0, 100, (num, *shape), np.uint8)
        if options.pop("is_virtual", False):
            layout = h5py.VirtualLayout(values.shape, np.uint8)
            for i in range(num):
                with h5py.File(f"source{i}.h5", "w") as source:
                    source["v"] = values[i]
                layout[i] = h5py.VirtualSource(f"source{i}.h5", "v", shape)
            file.create_virtual_dataset("X", layout)
        else:
            file.create_dataset("X", data=values, **options)
        file["Y"] = np.eye(num, dtype=np.float32)
    return path


LAYOUTS = {
    "contiguous": {},
    "chunked": {"chunks": (1, 8, 3, 16, 16)},
    "gzip": {"chunks": (1, 4, 3, 16, 16), "compression": "gzip"},
    "many": {"chunks": (7, 2, 3, 16, 8), "compression": "lzf", "shuffle": True},
    "h5py": {"chunks": (1, 8, 3, 16, 16), "scaleoffset": 0},
    "virtual": {"is_virtual": True},
    "userblock": {"chunks": (1, 8, 3, 16, 16), "userblock_size": 512},
    "growing": {"chunks": (2, 8, 3, 16, 16), "maxshape": (30, None, 3, 16, 16)},
}


def main(system, with_dataset):
    platform = sys.platform
    sys.platform = "win32" if system == "Windows" else "darwin"
    import h5video_data as h5v
    from h5video_data.reading import byte_sources, io_submit
    from h5video_data.storage import system as known
    from h5video_data.tools import cli

    sys.platform = platform
    assert not known.IS_LINUX
    assert io_submit.open_queue() is None
    assert (system != "Windows") == byte_sources.HAS_POSITIONED_READS
    for name, options in LAYOUTS.items():
        path = write(f"{name}.h5", **dict(options))
        with h5v.VideoLoader(path, batch_size=8, seed=0, num_threads=4) as loader:
            check(loader, "X", "Y")
        h5v.inspect(path)
        if with_dataset:
            check_dataset(h5v, path)
    with h5v.VideoLoader(["gzip.h5", "contiguous.h5"], batch_size=8) as loader:
        assert loader.num_samples == 60
        assert sum(len(x) for x, _ in loader) == 60
    h5v.repack("many.h5", "repacked.h5")
    with h5py.File("many.h5") as old, h5py.File("repacked.h5") as new:
        np.testing.assert_array_equal(old["X"][()], new["X"][()])
    with h5v.VideoLoader("repacked.h5", batch_size=8, seed=0) as loader:
        check(loader, "X", "Y")
    pack(h5v)
    assert cli.main(["inspect", "many.h5"]) == 0
    print("right")


def check_dataset(h5v, path):
    dataset = h5v.video_dataset_from_hdf5(path, batch_size=8, seed=0)
    with h5py.File(path) as file:
        expected = file["X"][()]
    seen = []
    for x, y in dataset:
        numbers = np.argmax(y, -1)
        np.testing.assert_array_equal(x, expected[numbers])
        seen.extend(numbers.tolist())
    assert sorted(seen) == [*range(30)]
    dataset.loader.close()


def pack(h5v):
    from pack_helpers import contents, noisy, write_video

    write_video(Path("videos/a/1.mkv"), noisy(8))
    write_video(Path("videos/b/2.mkv"), noisy(8))
    h5v.pack("videos", "packed.h5", num_frames=4)
    data, _ = contents("packed.h5")
    assert data["X"].shape[:2] == (2, 4), data["X"].shape


if __name__ == "__main__":
    hide(sys.argv[1])
    main(sys.argv[1], "dataset" in sys.argv)
