"""Faults of the disk and of the machine: right samples, or a clear error within seconds.

The disk's come from `fault_shim.c`, which is compiled here and preloaded.
"""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data import testing

pytestmark = pytest.mark.slow

SHAPE = testing.SAMPLE_SHAPE
# Of which HDF5's chunk cache does not hold all.
LARGE = (4, 3, 40, 40)
LAYOUTS = {
    "contiguous": {},
    "samples": {"chunks": (1, *SHAPE), "compression": "gzip"},
    "rows": {"chunks": (5, *SHAPE), "compression": "gzip"},
    "bands": {"chunks": (4, 1, 2, 8, 5), "compression": "lzf"},
    "h5py": {"dtype": ">i2", "scaleoffset": 0},
}
NUM = 42


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The preloaded library; skips where there is no compiler for it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler")
    path = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("fault_shim.c")
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", path, source, "-ldl"], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"the shim cannot be compiled: {done.stderr.decode()[:200]}")
    return path


def run(script, *arguments, shim=None, seconds=120, **faults):
    """Runs a script with faults; a hang is a failure."""
    env = {**os.environ, "PYTHONPATH": str(Path(h5v.__file__).parents[1])}
    if shim is not None:
        env |= {"LD_PRELOAD": str(shim), **{name: str(value) for name, value in faults.items()}}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=seconds)
    assert done.returncode in (0, 1), done.stderr  # no crash
    return done


READ = """
import os, sys
import h5video_data as h5v
from h5video_data import testing
from h5video_data.planning import access
access.MEMORY_ROW_BYTES = 64
path, on_error, num_threads = sys.argv[1:]
kind = os.environ.pop("FAULT_READ", None)  # the file is opened without faults, if it must be
if kind in ("interrupt", "short", "slow"):
    os.environ["FAULT_READ"] = kind
options = {"num_threads": int(num_threads), "on_error": on_error}
loader = h5v.VideoLoader(path, batch_size=5, seed=0, **options)
assert sum(len(indices) for _, indices, _ in loader.batches()) == 42  # labels are in memory now
if kind is not None:
    os.environ["FAULT_READ"] = kind
seen = []
for epoch in range(2):
    try:
        for _, indices, (x, y) in loader.batches():
            assert (x == testing.sample_values(indices, x.shape[1:])).all(), indices
            assert (y == testing.labels(indices, 4)).all(), indices
            seen += indices.tolist()
    except h5v.errors.H5VideoError as error:
        print(type(error).__name__, error)
        break
# Afterwards, the disk is whole again, and so is the loader.
os.environ.pop("FAULT_READ", None)
print(len(seen), len(loader.skipped), all(seen.count(i) <= 2 for i in range(42)))
list(loader.batches())  # of which some were read ahead
again = [i for _, indices, (x, _) in loader.batches() for i in indices.tolist()
         if (x == testing.sample_values(indices, x.shape[1:])).all()]
print(sorted(again) == list(range(42)))
"""


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["short", "interrupt", "slow"])
def test_reads_that_are_cut_short_interrupted_or_slow(tmp_path, shim, layout, kind):
    path = testing.write_video_file(tmp_path / "a.h5", num_samples=NUM, **LAYOUTS[layout])
    done = run(READ, path, "raise", 3, shim=shim, FAULT_PATH="a.h5", FAULT_READ=kind)
    assert done.stdout.split("\n")[:2] == [f"{2 * NUM} 0 True", "True"], done.stderr


def large_file(path, layout):
    """Writes a file, and returns it with the byte from where the values of half of it are."""
    options = dict(LAYOUTS[layout])
    if layout in ("samples", "rows"):
        options["chunks"] = (options["chunks"][0], *LARGE)
    elif layout == "h5py":
        options["chunks"] = (1, *LARGE)
    testing.write_video_file(path, num_samples=NUM, sample_shape=LARGE, **options)
    with h5py.File(path) as file:
        if file["X"].chunks is None:
            return path, file["X"].id.get_offset() + file["X"].nbytes // 2
        count = file["X"].id.get_num_chunks()
        return path, file["X"].id.get_chunk_info(count // 2).byte_offset


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOMEM, errno.ESTALE], ids=errno.errorcode.get)
def test_an_error_of_the_disk_is_raised_and_the_loader_goes_on(tmp_path, shim, layout, number):
    path, first = large_file(tmp_path / "a.h5", layout)
    faults = {"FAULT_PATH": "a.h5", "FAULT_READ": number, "FAULT_FROM": first}
    done = run(READ, path, "raise", 2, shim=shim, **faults)
    message, *_, counts, again, _ = done.stdout.split("\n")
    kind = "ReadError" if number == errno.EIO else "UnavailableError"
    assert message.startswith(kind), done
    assert "a.h5" in message
    assert "sample" in message
    assert counts.endswith("True"), done
    assert again == "True", done


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_broken_disk_gives_is_skipped_and_nothing_else(tmp_path, shim, layout):
    path, first = large_file(tmp_path / "a.h5", layout)
    faults = {"FAULT_PATH": "a.h5", "FAULT_READ": errno.EIO, "FAULT_FROM": first}
    done = run(READ, path, "skip", 2, shim=shim, **faults)
    counts, again, _ = done.stdout.split("\n")
    seen, skipped, are_once = counts.split()
    assert are_once == "True", done
    assert NUM // 6 <= int(skipped) <= 5 * NUM // 6, done
    assert int(seen) >= 2 * (NUM - int(skipped)), done
    assert again == "True", done


def change_file(path, how):
    if how == "replaced":
        # Of the same size, as a file of the same layout has it.
        other = path.with_name("other.h5")
        shutil.copy(path, other)
        with h5py.File(other, "r+") as file:
            file["X"][...] = 0
        os.replace(other, path)
    elif how == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "deleted":
        path.unlink()
    else:
        path.chmod(0)


@pytest.mark.memory_limit(64)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("how", ["replaced", "truncated", "deleted", "unreadable"])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.timeout(60)
def test_a_file_that_changes_in_the_middle_of_an_epoch(tmp_path, layout, how, on_error):
    path = tmp_path / "a.h5"
    large_file(path, layout)
    options = {"batch_size": 4, "seed": 0, "read_ahead_bytes": 0, "num_threads": 2}
    seen, error = [], None
    with h5v.VideoLoader(path, on_error=on_error, **options) as loader:
        batches = loader.batches()
        for step in range(100):
            if step == 3:
                change_file(path, how)
            try:
                _, indices, (x, y) = next(batches)
            except StopIteration:
                break
            except h5v.errors.H5VideoError as caught:
                error = caught
                break
            np.testing.assert_array_equal(x, testing.sample_values(indices, LARGE))
            np.testing.assert_array_equal(y, testing.labels(indices, 4))
            seen += indices.tolist()
        assert not loader.skipped
        assert len(seen) == len({*seen})
        if error is None:  # what is open stays open, and what it was
            assert len(seen) == NUM
        if how == "unreadable":
            assert error is None
            path.chmod(0o600)
            return
        kinds = {"deleted": h5v.errors.VideoFileNotFoundError}
        kind = kinds.get(how, h5v.errors.FileChangedError)
        assert isinstance(error, kind if how == "truncated" else (kind, type(None)))
        with pytest.raises(kind, match=re.escape(str(path))):
            next(loader.batches())


WRITE = """
import sys
import h5py
import h5video_data as h5v
kind, source, out = sys.argv[1:]
try:
    if kind == "pack":
        h5v.pack(source, out, num_frames=2, size=(16, 16))
    else:
        h5v.repack(source, out, **({"compression": "gzip"} if kind == "chunks" else {}))
except h5v.errors.H5VideoError as error:
    print(type(error).__name__, error)
else:
    print("done")
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    path = testing.write_video_file(folder / "old.h5", num_samples=NUM, chunks=(5, *SHAPE))
    pictures = folder / "pictures"
    imagecodecs = pytest.importorskip("imagecodecs")
    for video in range(3):
        (pictures / f"c{video % 2}" / f"v{video}").mkdir(parents=True)
        for frame in range(4):
            data = imagecodecs.png_encode(np.full((16, 16, 3), 10 * video + frame, np.uint8))
            (pictures / f"c{video % 2}" / f"v{video}" / f"{frame}.png").write_bytes(data)
    return {"rows": path, "chunks": path, "pack": pictures}


def content(path):
    with h5py.File(path) as file:
        return {name: file[name][()] for name in ("X", "Y")}


@pytest.mark.parametrize("kind", ["rows", "chunks", "pack"])
@pytest.mark.parametrize("fault", ["short", "interrupt", "slow"])
def test_writes_that_are_cut_short_interrupted_or_slow(tmp_path, shim, sources, kind, fault):
    out, usual = tmp_path / "new.h5", tmp_path / "usual.h5"
    done = run(WRITE, kind, sources[kind], usual)
    assert done.stdout == "done\n", done
    faults = {"FAULT_PATH": "new.h5", "FAULT_WRITE": fault}
    done = run(WRITE, kind, sources[kind], out, shim=shim, **faults)
    assert done.stdout == "done\n", done
    assert [item.name for item in sorted(tmp_path.iterdir())] == ["new.h5", "usual.h5"]
    np.testing.assert_equal(content(out), content(usual))


@pytest.mark.parametrize("kind", ["rows", "chunks", "pack"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("first", [1, 2, 5])
def test_a_full_or_broken_disk_leaves_no_file(tmp_path, shim, sources, kind, number, first):
    out = tmp_path / "new.h5"
    faults = {"FAULT_PATH": "new.h5", "FAULT_WRITE": number, "FAULT_FROM": first}
    done = run(WRITE, kind, sources[kind], out, shim=shim, **faults)
    name = "PackingError" if kind == "pack" else "RepackingError"
    assert done.stdout.startswith(name), done
    assert "new.h5" in done.stdout
    assert os.strerror(number) in done.stdout
    assert not out.exists()
    # What was there before, stays.
    out.write_bytes(b"old")
    script = WRITE.replace("source, out,", "source, out, overwrite=True,")
    assert script != WRITE
    done = run(script, kind, sources[kind], out, shim=shim, **faults)
    assert done.stdout.startswith(name), done
    assert out.read_bytes() == b"old"


MEMORY = """
import resource, sys
import h5video_data as h5v
loader = h5v.VideoLoader(sys.argv[1], batch_size=4, seed=0, num_threads=2, y=None,
                         on_error=sys.argv[2])
[x] = [next(iter(loader)) for _ in range(1)]
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (12 << 20), resource.RLIM_INFINITY))
held = []
try:
    for epoch in range(5):
        for x in loader:
            held.append(x)  # as a consumer that keeps every batch
except (h5v.errors.UnavailableError, MemoryError) as error:
    del x
    print(type(error).__name__, str(error)[:80])
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
held.clear()
print(len(loader.skipped), sum(len(x) for x in loader))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize("layout", ["contiguous", "samples", "rows", "h5py"])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_no_memory_for_a_buffer(tmp_path, layout, on_error):
    shape, options = (1 << 20,), dict(LAYOUTS[layout])
    if "chunks" in options:
        options["chunks"] = (options["chunks"][0], *shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", data=np.ones((40, *shape), np.uint8), **options)
    done = run(MEMORY, tmp_path / "a.h5", on_error)
    message, rest, _ = done.stdout.split("\n")
    assert message.startswith(("UnavailableError", "MemoryError")), done
    assert rest == "0 40", done  # nothing is skipped, and the loader goes on
