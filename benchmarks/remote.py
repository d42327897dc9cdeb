"""Measures files of a web server: throughput, the first batch, and what is kept on this machine.

    python -m benchmarks.remote --latency 0.05

A server in a process of its own answers range requests from files, each after the latency. Then:

- `throughput`: samples per second of an epoch, and of the same number of bare range requests, each
  of one sample, as many at once, by aiohttp alone;
- `at once`: both, by the number of requests at once;
- `first batch`: seconds from the path to the first batch of a file of 100,000 chunks, whose index
  is the default B-tree: of tiny chunks, and of chunks of 24 KiB (a sparse file of 2.4 GB); without
  an index of this package, with one (`save_index`), and the number of requests of each;
- `requests`: how many an epoch takes, and how many bytes, by the layout of the file;
- `cache`: samples per second of the first and the second epoch with `cache_dir`, and from the disk.

Throughput takes turns; medians are reported. Processes share the machine: its processors are a part
of the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import h5video_data as h5v
from h5video_data.reading.one_pass import read_once
from h5video_data.storage.remote.request_options import DEFAULTS

from .measure import in_turns, spread
from .video_set import positive_integer, temporary_folder

SAMPLE = (8, 64, 64, 3)
TINY = (2, 4, 4, 1)
SMALL = (8, 32, 32, 3)
BATCH_SIZE = 32
_REQUEST = re.compile(rb"(GET|HEAD) /(\S+) HTTP/1.1\r\n.*?\r\n\r\n", re.DOTALL)
_RANGE = re.compile(rb"range: bytes=(\d+)-(\d+)", re.IGNORECASE)


async def serve(folder: Path, latency: float) -> None:
    """Answers requests for the files of a folder; "/count" tells how many there were."""
    count = num_bytes = 0
    files: dict[str, Any] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count, num_bytes
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = _REQUEST.fullmatch(head)
                assert found is not None
                name = found[2].decode()
                if name == "count":
                    body, size = f"{count} {num_bytes}".encode(), 0
                else:
                    count += 1
                    await asyncio.sleep(latency)
                    if name not in files:
                        files[name] = (folder / name).open("rb")
                    size = (folder / name).stat().st_size
                    span = _RANGE.search(head)
                    first, last = (int(span[1]), int(span[2])) if span else (0, size - 1)
                    body = b""
                    if found[1] == b"GET":
                        files[name].seek(first)
                        body = files[name].read(last + 1 - first)
                        num_bytes += len(body)
                length = size if found[1] == b"HEAD" else len(body)
                status = b"206 Partial Content" if found[1] == b"GET" and size else b"200 OK"
                more = f'ETag: "{size}"\r\nContent-Length: {length}\r\n\r\n'.encode()
                writer.write(b"HTTP/1.1 " + status + b"\r\nAccept-Ranges: bytes\r\n" + more + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def running_server(folder: Path, latency: float) -> Iterator[str]:
    """Returns a context with a server in another process; yields its URL."""
    command = [sys.executable, "-m", "benchmarks.remote", "--serve", str(folder)]
    process = subprocess.Popen([*command, "--latency", str(latency)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def counts_of(url: str) -> tuple[int, int]:
    """Returns how many requests there were so far, and the bytes that they were answered with."""
    from urllib.request import urlopen

    with urlopen(f"{url}/count") as answer:
        num_requests, num_bytes = map(int, answer.read().split())
        return num_requests, num_bytes


def make_samples(path: Path, num_samples: int) -> None:
    """Writes a contiguous dataset of random samples."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["X"] = rng.integers(0, 255, (num_samples, *SAMPLE), np.uint8)
        file["Y"] = np.arange(num_samples) % 10


def make_chunks(path: Path, num_chunks: int, sample: tuple[int, ...]) -> None:
    """Writes a file of chunks of one sample that takes no room on the disk: they are not filled."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((1, *sample))
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((num_chunks, *sample))
        h5py.h5d.create(file.id, b"X", h5py.h5t.NATIVE_UINT8, space, plist)
        file["Y"] = np.arange(num_chunks) % 10


async def bare_requests(url: str, offsets: Sequence[int], size: int, concurrent: int) -> float:
    """Reads ranges of a file by aiohttp, so many at once; returns requests per second."""
    import aiohttp

    left = iter(offsets)
    connector = aiohttp.TCPConnector(limit=concurrent)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def work() -> None:
            for offset in left:
                headers = {"Range": f"bytes={offset}-{offset + size - 1}"}
                async with session.get(url, headers=headers) as answer:
                    assert len(await answer.read()) == size

        begin = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(concurrent)))
        return len(offsets) / (time.perf_counter() - begin)


def throughput(url: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measures an epoch, and bare requests for its samples, in turns."""
    make_samples(folder / "samples.h5", options.samples)
    with h5py.File(folder / "samples.h5") as file:
        start, size = file["X"].id.get_offset(), int(np.prod(SAMPLE))
    order = np.random.default_rng(0).permutation(options.samples)
    offsets = (start + order * size).tolist()
    with h5v.VideoLoader(f"{url}/samples.h5", batch_size=BATCH_SIZE, seed=0) as loader:
        epochs = iter(range(0, 10**6, 1000))

        def epoch() -> float:
            loader.set_epoch(next(epochs))  # nothing was read ahead
            begin = time.perf_counter()
            count = sum(len(numbers) for _, numbers, _ in loader.batches())
            return count / (time.perf_counter() - begin)

        def bare() -> float:
            place = f"{url}/samples.h5"
            return asyncio.run(bare_requests(place, offsets, size, options.concurrent))

        found = in_turns({"h5video_data": epoch, "bare requests": bare}, options.rounds)
    ours, theirs = np.array(found["h5video_data"]), np.array(found["bare requests"])
    return {
        "samples/s": spread(ours),
        "bare requests/s": spread(theirs),
        "ratio": float(np.median(ours / theirs)),
    }


def at_once(url: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measures samples and bare requests per second, by the number of requests at once."""
    make_samples(folder / "samples.h5", options.samples)
    with h5py.File(folder / "samples.h5") as file:
        start, size = file["X"].id.get_offset(), int(np.prod(SAMPLE))
    order = np.random.default_rng(0).permutation(options.samples)
    offsets, place = (start + order * size).tolist(), f"{url}/samples.h5"
    found = {}
    for number in options.at_once:
        arguments: dict[str, Any] = {"batch_size": BATCH_SIZE, "seed": 0}
        arguments["remote_options"] = {"max_requests": number}
        with h5v.VideoLoader(place, **arguments) as loader:
            next(loader.batches())  # connects
            loader.set_epoch(1000)
            begin = time.perf_counter()
            count = sum(len(numbers) for _, numbers, _ in loader.batches())
            ours = count / (time.perf_counter() - begin)
        bare = asyncio.run(bare_requests(place, offsets, size, number))
        found[number] = {"samples/s": round(ours), "bare requests/s": round(bare)}
    return found


def first_batch(url: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measures the time to the first batch of files of many chunks."""
    found = {}
    for name, sample in (("tiny", TINY), ("small", SMALL)):
        make_chunks(folder / f"{name}.h5", options.chunks, sample)
        place, index = f"{url}/{name}.h5", str(folder / f"{name}.h5i")
        ways: dict[str, dict[str, Any]] = {"first": {}, "with index": {"index": index}}
        sent = {} if options.max_requests is None else {"max_requests": options.max_requests}
        for how, more in ways.items():
            before, begin = counts_of(url)[0], time.perf_counter()
            arguments = {"batch_size": BATCH_SIZE, "seed": 0, "remote_options": sent, **more}
            with h5v.VideoLoader(place, **arguments) as loader:
                opened = time.perf_counter()
                num_requests = counts_of(url)[0] - before
                next(loader.batches())
                seconds = time.perf_counter() - begin
                if not more:
                    loader.save_index(index)
            found[f"{name}, {how}"] = {
                "seconds": seconds,
                "opening": opened - begin,
                "requests to open": num_requests,
            }
    return found


def requests(url: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Counts the requests of an epoch, for each sample, and the bytes, for each byte of samples."""
    count = options.counted
    values = np.random.default_rng(0).integers(0, 255, (count, *SAMPLE), np.uint8)
    with h5py.File(folder / "layouts.h5", "w") as file:
        file["Y"] = np.arange(count) % 10
        file["contiguous"] = values
        for name, chunk in (("chunk a sample", 1), ("chunks of 16 samples", 16)):
            file.create_dataset(name, data=values, chunks=(chunk, *SAMPLE), compression="lzf")
        file.create_dataset("chunk a frame", data=values, chunks=(1, 1, *SAMPLE[1:]))
        size_of = {name: file[name].id.get_storage_size() for name in file}
    found = {}
    ways: dict[str, dict[str, Any]] = {
        "contiguous": {},
        "contiguous, in order": {"x": "contiguous", "shuffle": False},
        "chunk a sample": {},
        "chunk a frame": {},
        "chunks of 16 samples": {},
        'chunks of 16 samples, shuffle="blocks"': {
            "x": "chunks of 16 samples",
            "shuffle": "blocks",
        },
    }
    for name, more in ways.items():
        arguments = {"x": name, "batch_size": BATCH_SIZE, "seed": 0, **more}
        with h5v.VideoLoader(f"{url}/layouts.h5", **arguments) as loader:
            steps = range(loader.steps_per_epoch)
            order = np.concatenate([loader.batch_indices(epoch=0, step=i) for i in steps])
            before = counts_of(url)
            for _ in read_once(
                loader._set, order, batch_size=BATCH_SIZE, num_threads=loader._num_threads
            ):
                pass
            num_requests, num_bytes = (b - a for a, b in zip(before, counts_of(url), strict=True))
        found[name] = {
            "requests a sample": round(num_requests / count, 3),
            "bytes requested for each stored": round(num_bytes / size_of[arguments["x"]], 2),
        }
    return found


def cache(url: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measures two epochs with a cache on the disk, and one of the local file."""
    found = {}
    make_samples(folder / "samples.h5", options.samples)
    places = {"remote": f"{url}/samples.h5", "local": str(folder / "samples.h5")}
    for name, path in places.items():
        cache_dir = str(folder / "cache") if name == "remote" else None
        with h5v.VideoLoader(path, batch_size=BATCH_SIZE, seed=0, cache_dir=cache_dir) as loader:
            for epoch in (0, 1000, 2000):
                loader.set_epoch(epoch)
                begin = time.perf_counter()
                count = sum(len(numbers) for _, numbers, _ in loader.batches())
                found[f"{name}, epoch {epoch // 1000}"] = count / (time.perf_counter() - begin)
    return found


MEASURES = {
    "throughput": throughput,
    "at_once": at_once,
    "first_batch": first_batch,
    "requests": requests,
    "cache": cache,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and prints JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.remote",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--latency", type=float, default=0.05, metavar="SECONDS")
    parser.add_argument("--concurrent", type=positive_integer, default=DEFAULTS.max_requests)
    text = "of the first batch (default: that of the package)"
    parser.add_argument("--max-requests", type=positive_integer, default=None, help=text)
    parser.add_argument(
        "--at-once", type=positive_integer, nargs="*", default=[16, 32, 64, 128, 256]
    )
    parser.add_argument("--samples", type=positive_integer, default=4000)
    parser.add_argument("--chunks", type=positive_integer, default=100_000)
    parser.add_argument("--counted", type=positive_integer, default=1600, help="samples: requests")
    parser.add_argument("--rounds", type=positive_integer, default=3)
    parser.add_argument("--temporary", type=Path, default=None, metavar="FOLDER")
    parser.add_argument("--only", choices=[*MEASURES], nargs="*")
    options = parser.parse_args(arguments)
    if options.serve:
        asyncio.run(serve(options.serve, options.latency))
    with (
        temporary_folder(options) as folder,
        running_server(Path(folder), options.latency) as url,
    ):
        for name in options.only or MEASURES:
            print(json.dumps({name: MEASURES[name](url, Path(folder), options)}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
