"""`save_index`: what HDF5 reads of remote files, kept for the next run."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import sys
import textwrap
import zlib

import h5py
import numpy as np
import pytest
from remote_server import RangeServer

import h5video_data as h5v
from h5video_data.errors import (
    ArgumentError,
    FileChangedError,
    FileFormatError,
    UnavailableError,
    VideoFileNotFoundError,
)
from h5video_data.storage.remote.index import Index, Pieces

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

COUNT = 40
X = np.random.default_rng(0).integers(0, 255, (COUNT, 4, 16, 16, 3), np.uint8)
SECRET = "hunter2-do-not-show"
# Recordings are many datasets: HDF5 reads their headers one by one.
OPENINGS = {
    "stacked": {"x": "X", "split_by": "ids", "validation_split": 0.25, "subset": "training"},
    "recordings": {"x": "data/*/frames", "y": "@task", "windows": h5v.Windows(3)},
    "pictures_of_h5py": {"x": "twelve_bits", "y": {"a": "Y", "b": "ids"}},
}


def content(shift=0):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for number in range(10):
            group = file.create_group(f"data/{number}")
            group.create_dataset("frames", data=X[number], chunks=(1, 16, 16, 3))
            group.attrs["task"] = number % 2
        file.create_dataset("X", data=X + np.uint8(shift), chunks=(1, 4, 16, 16, 3))
        file["Y"], file["ids"] = np.arange(COUNT) % 3, np.arange(COUNT) // 4
        kind = h5py.h5t.NATIVE_INT16.copy()
        kind.set_precision(12)
        space = h5py.h5s.create_simple((COUNT, 5))
        stored = h5py.h5d.create(file.id, b"twelve_bits", kind, space)
        stored.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(COUNT * 5).reshape(-1, 5))
    return buffer.getvalue()


@pytest.fixture
def server():
    found = RangeServer()
    for number in range(2):
        found.put(f"/set/{number}.h5", content(number))
    yield found
    found.close()


def loader_of(server, **options):
    paths = [f"{server.url}/set/{number}.h5" for number in range(2)]
    return h5v.VideoLoader(paths, **{"seed": 3, "batch_size": 8, **options})


def epoch(loader):
    with loader:
        return [(indices, *arrays) for _, indices, arrays in loader.batches()]


@pytest.fixture
def saved(server, tmp_path):
    path = tmp_path / "set.h5i"
    with loader_of(server) as loader:
        loader.save_index(path)
    return path


@pytest.mark.parametrize("how", OPENINGS)
def test_a_set_opens_without_a_byte_of_its_files(server, tmp_path, how):
    with loader_of(server, **OPENINGS[how]) as loader:
        loader.save_index(tmp_path / "set.h5i")
    expected = epoch(loader_of(server, **OPENINGS[how]))
    server.requests.clear()
    loader = loader_of(server, index=tmp_path / "set.h5i", **OPENINGS[how])
    assert {method for method, *_ in server.requests} == {"HEAD"}
    assert len(server.requests) == 2  # one for each file
    for batch, other in zip(epoch(loader), expected, strict=True):
        for values, others in zip(batch, other, strict=True):
            np.testing.assert_array_equal(values, others)


def test_it_serves_a_part_of_the_set_and_one_with_more_files(server, saved):
    server.put("/set/2.h5", content(2))
    for names in ("1", "201"):
        paths = [f"{server.url}/set/{name}.h5" for name in names]
        with h5v.VideoLoader(paths, index=saved, shuffle=False) as loader:
            _, _, (x, *_) = next(loader.batches())
            np.testing.assert_array_equal(x, (X + np.uint8(int(names[0])))[:32])


def test_it_is_refused_when_an_object_has_changed(server, saved):
    server.put("/set/1.h5", content(7))
    with pytest.raises(FileChangedError, match=r"set/1\.h5 was changed.*set\.h5i.*version from"):
        loader_of(server, index=saved)
    server.put("/set/1.h5", content(7) + b"more")
    with pytest.raises(FileChangedError, match=r"size from \d+ to \d+.*save_index\('set\.h5i'\)"):
        loader_of(server, index=saved)


def test_one_of_the_same_contents_elsewhere_is_not_taken_for_it(server, saved):
    server.objects["/other.h5"], server.versions["/other.h5"] = content(0), '"o"'
    with pytest.raises(ArgumentError, match=r"`index` is of other files than http\S+/other\.h5"):
        h5v.VideoLoader(f"{server.url}/other.h5", index=saved)


def test_one_made_of_urls_that_are_signed_anew_is_found(server, tmp_path):
    path = tmp_path / "a.h5i"
    with h5v.VideoLoader(f"{server.url}/set/0.h5?X-Signature={SECRET}") as loader:
        loader.save_index(path)
    server.requests.clear()
    with h5v.VideoLoader(f"{server.url}/set/0.h5?X-Signature=other", index=path):
        assert {method for method, *_ in server.requests} == {"HEAD"}
    assert SECRET not in json.dumps(Index(path)._entries, default=str)


def test_it_has_no_credentials(server, tmp_path):
    path = tmp_path / "a.h5i"
    url = f"{server.url.replace('//', f'//me:{SECRET}@')}/set/0.h5?sig={SECRET}"
    options = {"headers": {"X-Token": SECRET}}
    with h5v.VideoLoader(url, storage_options=options) as loader:
        loader.save_index(path)
    raw = path.read_bytes()
    assert SECRET.encode() not in raw + zlib.decompress(raw.partition(b"\n")[2][32:])


def damage(name, raw):
    head, _, rest = raw.partition(b"\n")
    body = zlib.decompress(rest[32:])
    return {
        "empty": b"",
        "another file": b"\x89HDF\r\n\x1a\n" + bytes(200),
        "pickle": b"cos\nsystem\n(S'true'\ntR.",
        "cut short": raw[:-9],
        "a bit": raw[:500] + bytes([raw[500] ^ 1]) + raw[501:],
        "another release": b"h5video_data index 2\n" + rest,
        "other bytes": head + b"\n" + rest[:32] + zlib.compress(body, 1),
        "no checksum": head + b"\n" + rest[:20],
        "no list": seal(b"{}"),
        "no text": seal(b"\xff"),
        "fewer bytes": seal(body[8 : 8 + struct.unpack_from("<Q", body)[0]]),
    }[name]


def seal(text):
    import hashlib

    body = zlib.compress(struct.pack("<Q", len(text)) + text)
    return b"h5video_data index 1\n" + hashlib.sha256(body).digest() + body


DAMAGES = {
    **dict.fromkeys(["empty", "another file", "pickle"], r"set\.h5i is no index"),
    **dict.fromkeys(["cut short", "a bit", "no checksum", "other bytes"], r"set\.h5i is damaged"),
    **dict.fromkeys(["no list", "no text", "fewer bytes"], r"set\.h5i is damaged"),
    "another release": r"set\.h5i is an index of another release",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_one_is_an_error(server, saved, name):
    saved.write_bytes(damage(name, saved.read_bytes()))
    with pytest.raises(FileFormatError, match=DAMAGES[name]):
        loader_of(server, index=saved)


def test_none_is_made_of_objects_of_which_no_version_is_known(server, tmp_path):
    server.versions["/set/1.h5"] = None
    with loader_of(server) as loader, pytest.raises(ArgumentError, match=r"1\.h5 says neither"):
        loader.save_index(tmp_path / "set.h5i")
    assert not [*tmp_path.iterdir()]


def test_what_it_cannot_be(server, saved, tmp_path):
    with pytest.raises(VideoFileNotFoundError, match=r"save_index.*none\.h5i"):
        loader_of(server, index=tmp_path / "none.h5i")
    with pytest.raises(ArgumentError, match="`index` must be a path"):
        loader_of(server, index=True)
    with pytest.raises(ArgumentError, match=r"must be a path\. To choose samples, use `indices`"):
        loader_of(server, index=[1, 2])
    with pytest.raises(ArgumentError, match="`index` must be on this machine"):
        loader_of(server, index=f"https://me:{SECRET}@a/set.h5i")
    (tmp_path / "a.h5").write_bytes(content())
    with pytest.raises(ArgumentError, match="`index` needs URLs in `path`"):
        h5v.VideoLoader(tmp_path / "a.h5", index=saved)
    local, message = h5v.VideoLoader(tmp_path / "a.h5"), "those of this set are on the disk"
    with local, pytest.raises(ArgumentError, match=message):
        local.save_index(tmp_path / "b.h5i")
    with loader_of(server) as loader, pytest.raises(UnavailableError, match="cannot write"):
        loader.save_index(tmp_path / "none" / "set.h5i")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "set.h5i"]


def test_paths_of_an_iterator_and_a_glob(tmp_path):
    system = pytest.importorskip("fsspec").filesystem("memory")
    try:
        for number in range(2):
            system.pipe_file(f"/set/{number}/a.h5", content(number))
        arguments = {"windows": 3, "x": "data/*/frames", "y": "inferred"}
        with h5v.VideoLoader("memory://set/*/*.h5", **arguments) as loader:
            loader.save_index(tmp_path / "a.h5i")
        paths = (f"memory://set/{number}/a.h5" for number in (1, 0))
        with h5v.VideoLoader(paths, index=tmp_path / "a.h5i") as loader:
            loader.save_index(tmp_path / "b.h5i")
            assert loader.num_samples == 2 * COUNT
        assert (tmp_path / "b.h5i").exists()
    finally:
        system.rm("/set", recursive=True)


def test_another_process_uses_it(server, saved):
    shutil.move(saved, saved.with_name("moved.h5i"))
    server.requests.clear()
    code = f"""
        import h5video_data as h5v
        h5v.VideoLoader("{server.url}/set/1.h5", index={str(saved.with_name("moved.h5i"))!r})
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120)
    assert {method for method, *_ in server.requests} == {"HEAD"}


def test_pieces():
    pieces = Pieces([(10, b"klm"), (0, b"abcdef"), (4, b"efgh"), (13, b"n"), (2, b"cd")])
    assert [*pieces] == [(0, b"abcdefgh"), (10, b"klmn")]
    assert pieces.read(1, 4) == b"bcd"
    assert pieces.read(10, 14) == b"klmn"
    for start, stop in ((7, 11), (9, 10), (12, 15)):
        assert pieces.read(start, stop) is None
    assert Pieces().read(0, 1) is None
