"""Reads generated files of any layout, dtype and filters, and compares all samples with h5py.

    python tests/generated_files.py --cases 1000 --seed 0

A case is a seed: how values are stored (layout, dtype, grid of chunks, filters and their masks,
fill value, byte order, userblock, links, virtual and external storage, chunks that were never
written, the format's version), what a sample is (a row, a window of a recording, an encoded
picture), and how it is read (batch size, order, threads, memory). Some are repacked and inspected
as well. Prints, as JSON, how many there were of what, and the seeds at which something else came
than from h5py.
"""

from __future__ import annotations

import argparse
import collections
import json
import logging
import random
import shutil
import sys
import tempfile
import time
import traceback
import zlib
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
from picture_rows_helpers import FORMS, decoded, jpeg, png, row_bytes

import h5video_data as h5v
from h5video_data.planning import access
from h5video_data.tools.repack import repack

DTYPES = ["?", "u1", "i1", "<u2", ">u2", "<i2", ">i4", "<u4", ">i8", "<u8"]
DTYPES += ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "<c8", ">c8", "<c16", ">c16"]
COMPRESSIONS = ["none", "none", "gzip", "gzip", "lzf", "zstd", "lz4", "blosc", "blosc2"]
COMPRESSIONS += ["bitshuffle", "szip", "scaleoffset"]
PICTURES = [jpeg(i, (9, 12)) if i % 3 else png(i, (9, 12)) for i in range(14)]


def made(rng, shape, dtype):
    """Values that use all bytes of a dtype, of which some repeat."""
    dtype = np.dtype(dtype)
    numbers = np.random.default_rng(rng.randrange(1 << 30))
    if dtype.kind in "fc":
        values = numbers.standard_normal(shape)
        if dtype.kind == "c":
            values = values + 1j * numbers.standard_normal(shape)
    elif dtype.kind == "b":
        values = numbers.integers(0, 2, shape)
    else:
        info = np.iinfo(dtype)
        native = dtype.newbyteorder("=")
        values = numbers.integers(info.min, info.max, shape, native, endpoint=True)
    if rng.random() < 0.5:
        values[...] = values[:1]
    return values.astype(dtype)


# --------------------------------------------------------------------------- storage


def filters_of(rng, dtype):
    """Filters, as arguments of `create_dataset`."""
    kind = np.dtype(dtype).kind
    numbers = kind in "iu" and np.dtype(dtype).itemsize <= 4
    name = rng.choice(COMPRESSIONS)
    options = {}
    if name in ("gzip", "lzf"):
        options["compression"] = name
        if name == "gzip" and rng.random() < 0.5:
            options["compression_opts"] = rng.randrange(10)
    elif name in ("zstd", "lz4"):
        options |= {"zstd": hdf5plugin.Zstd, "lz4": hdf5plugin.LZ4}[name]()
    elif name == "blosc":
        codec = rng.choice(["lz4", "blosclz", "zstd", "zlib", "lz4hc"])
        options |= hdf5plugin.Blosc(cname=codec, shuffle=rng.randrange(3))
    elif name == "blosc2":
        codec = rng.choice(["lz4", "blosclz", "zstd", "zlib"])
        options |= hdf5plugin.Blosc2(cname=codec, filters=rng.randrange(3))
    elif name == "bitshuffle":
        codec = rng.choice(["none", "lz4", "zstd"])
        options |= hdf5plugin.Bitshuffle(nelems=rng.choice([0, 8, 64]), cname=codec)
    elif name == "szip" and kind in "iuf" and np.dtype(dtype).itemsize <= 8:
        options["compression"] = "szip"
    elif name == "scaleoffset" and numbers:
        options["scaleoffset"] = 0
    if name in ("none", "gzip", "lzf", "zstd"):
        options["shuffle"] = rng.random() < 0.5
        options["fletcher32"] = rng.random() < 0.3
    return options


def storage_of(rng, shape, dtype):
    """Arguments of `create_dataset`: a grid of chunks and filters, or none."""
    options = {}
    if rng.random() < 0.4:
        options["fillvalue"] = made(rng, (2,), dtype)[1]
    if rng.random() < 0.2:
        return options
    if rng.random() < 0.1:
        return {**options, "chunks": True, "maxshape": (None, *shape[1:])}
    rows = rng.choice([1, 1, 1, 2, 3, shape[0], shape[0] + 3])
    draw = rng.random()
    inner = shape[1:] if draw < 0.4 else tuple(rng.randint(1, n + (draw > 0.9)) for n in shape[1:])
    chunks = (max(rows, 1), *(max(n, 1) for n in inner))
    maxshape = tuple(
        None if rng.random() < 0.3 else max(n, c) + rng.choice([0, 0, 5])
        for n, c in zip(shape, chunks, strict=True)
    )
    return {**options, "chunks": chunks, "maxshape": maxshape, **filters_of(rng, dtype)}


def write_values(rng, dataset, values):
    """Writes values, or some of them, at once or in parts."""
    draw = rng.random()
    if draw < 0.5:
        dataset[...] = values
    elif draw < 0.7:
        for row in rng.sample(range(len(values)), rng.randint(0, len(values))):
            dataset[row] = values[row]
    else:
        for _ in range(rng.randint(1, 4)):
            where = tuple(slice(rng.randint(0, n), rng.randint(0, n)) for n in values.shape)
            dataset[where] = values[where]


def write_masked(rng, dataset, values):
    """Writes a dataset of gzip, some chunks of which went through no filter."""
    plist = dataset.id.get_create_plist()
    names = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if names != [h5py.h5z.FILTER_DEFLATE]:
        return write_values(rng, dataset, values)
    chunk = dataset.chunks
    for corner in np.ndindex(*(-(-n // c) for n, c in zip(values.shape, chunk, strict=True))):
        place = [i * c for i, c in zip(corner, chunk, strict=True)]
        part = values[tuple(slice(p, p + c) for p, c in zip(place, chunk, strict=True))]
        whole = np.zeros(chunk, values.dtype)
        whole[tuple(map(slice, part.shape))] = part
        is_raw = rng.random() < 0.5
        data = whole.tobytes() if is_raw else zlib.compress(whole.tobytes())
        if rng.random() < 0.9:
            dataset.id.write_direct_chunk(tuple(place), data, int(is_raw))
    return None


def write_dataset(rng, file, name, values, kinds):
    """Writes a dataset in a way of its own; returns the name to open it by."""
    dtype, shape = values.dtype, values.shape
    beside = f"{file.filename}.{name.replace('/', '.')}"  # the name of another file for it
    kind = rng.choice(["plain"] * 8 + ["masked", "array", "external", "virtual", "compact", "enum"])
    kinds[kind] += 1
    if kind == "external":
        raw = [(f"{beside}.raw", 16, h5py.h5f.UNLIMITED)]
        file.create_dataset(name, data=values, external=raw)
    elif kind == "virtual":
        layout = h5py.VirtualLayout(shape, dtype)
        other = Path(f"{beside}.source")
        with h5py.File(other, "w") as source:
            for row in range(shape[0]):
                if rng.random() < 0.8:
                    source[f"row{row}"] = values[row]
                    part = h5py.VirtualSource(other.name, f"row{row}", shape[1:])
                    layout[row] = part
        file.create_virtual_dataset(name, layout, fillvalue=made(rng, (1,), dtype)[0])
    elif kind == "array" and len(shape) > 1:
        split = rng.randrange(1, len(shape))
        inner = np.dtype((dtype, shape[split:]))
        chunks = (rng.choice([1, 2]), *shape[1:split]) if rng.random() < 0.6 else None
        if chunks and shape[0] < chunks[0]:
            chunks = None
        dataset = file.create_dataset(name, shape[:split], inner, chunks=chunks)
        for row in range(shape[0]):
            dataset[row] = values[row]
    elif kind == "compact" and values.nbytes < 30_000:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        stored, space = h5py.h5t.py_create(dtype, logical=True), h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, name.encode(), stored, space, plist)
        file[name][...] = values
    elif kind == "masked":
        chunks = tuple(rng.randint(1, max(n, 1)) for n in shape)
        dataset = file.create_dataset(name, shape, dtype, chunks=chunks, compression="gzip")
        write_masked(rng, dataset, values)
    elif kind == "enum" and dtype.kind in "iu":
        named = h5py.enum_dtype({"a": 0, "b": 1}, basetype=dtype)
        file.create_dataset(name, data=values, dtype=named, **storage_of(rng, shape, "u1"))
    else:
        dataset = file.create_dataset(name, shape, dtype, **storage_of(rng, shape, dtype))
        write_values(rng, dataset, values)
        if dataset.chunks and dataset.maxshape[0] is None and rng.random() < 0.2:
            dataset.resize(shape[0] + 2, axis=0)  # rows that were never written
            dataset.resize(shape[0] + 1, axis=0)
            dataset.resize(shape[0], axis=0)
    return linked(rng, file, name)


def linked(rng, file, name):
    """Puts a link before a dataset, or none; returns the name to open it by."""
    draw = rng.random()
    if draw < 0.8:
        return name
    if draw < 0.86:
        file[f"links/{name}"] = file[name]
    elif draw < 0.93:
        file[f"links/{name}"] = h5py.SoftLink(f"/{name}")
    else:
        path = Path(file.filename)
        with h5py.File(f"{path}.link", "w") as other:
            other["to"] = h5py.ExternalLink(path.name, f"/{name}")
        file[f"links/{name}"] = h5py.ExternalLink(f"{path.name}.link", "/to")
    return f"links/{name}"


def open_new(rng, path):
    options = {"libver": rng.choice(["earliest", "latest", "v108", "v110"])}
    options["userblock_size"] = rng.choice([0, 0, 0, 512, 2048])
    return h5py.File(path, "w", **options)


# --------------------------------------------------------------------------- cases


class Case:
    """A set of files, how it is opened, and the samples that should come."""

    def __init__(self, seed, folder):
        self.rng, self.folder = random.Random(seed), folder
        self.kinds = collections.Counter()
        self.options = {"y": None}
        self.expected = []
        self.name = "X"
        self.path = folder / "set.h5"
        what = self.rng.choice(["stacked"] * 5 + ["windows"] * 3 + ["pictures"] * 2)
        self.kinds[what] += 1
        getattr(self, what)()

    def inner(self, least_rank):
        rank = self.rng.randint(least_rank, 4)
        return tuple(self.rng.randint(1, 7) for _ in range(rank))

    def stacked(self):
        rng = self.rng
        dtype, inner = rng.choice(DTYPES), self.inner(1)
        num_files = rng.choice([1, 1, 1, 2, 3])
        paths = [self.folder / f"set{i}.h5" for i in range(num_files)]
        for i, path in enumerate(paths):
            rows = rng.randint(1, 9)
            with open_new(rng, path) as file:
                values = made(rng, (rows, *inner), dtype)
                name = write_dataset(rng, file, "X", values, self.kinds)
                if name != "X" and num_files > 1:
                    name = "X"
                if rng.random() < 0.2:
                    rows = rng.randint(1, rows)
                    file.attrs["sample_count"] = rows
            with h5py.File(path) as file:
                self.expected += list(file[name][:rows])
            self.name = name if i == 0 else "X"
        self.path = paths if num_files > 1 else paths[0]
        self.options["x"] = self.name

    def windows(self):
        rng = self.rng
        dtype, inner = rng.choice(DTYPES), self.inner(0)
        lengths = [rng.randint(1, 12) for _ in range(rng.randint(1, 5))]
        form = rng.choice(["flat", "groups", "files"])
        data = [made(rng, (n, *inner), dtype) for n in lengths]
        bounds = None
        if form == "flat":
            ends = np.cumsum(lengths)
            bounds = rng.choice(["starts", "lengths", "ends", "ids"])
            values = {"starts": ends - lengths, "lengths": lengths, "ends": ends}.get(bounds)
            with open_new(rng, self.path) as file:
                name = write_dataset(rng, file, "X", np.concatenate(data), self.kinds)
                ids = np.repeat(np.arange(len(lengths)) * 3 + 5, lengths)
                file["bounds"] = ids if values is None else values
            with h5py.File(self.path) as file:
                data = np.split(file[name][:], ends[:-1])
        elif form == "groups":
            with open_new(rng, self.path) as file:
                for i, values in enumerate(data):
                    group = f"data/demo_{i}"
                    file.create_group(group)
                    write_dataset(rng, file, f"{group}/X", values, self.kinds)
            name = "data/*/X"
            with h5py.File(self.path) as file:
                data = [file[f"data/demo_{i}/X"][:] for i in range(len(lengths))]
        else:
            name, self.path = "X", [self.folder / f"set{i}.h5" for i in range(len(lengths))]
            for i, path in enumerate(self.path):
                with open_new(rng, path) as file:
                    write_dataset(rng, file, "X", data[i], self.kinds)
                with h5py.File(path) as file:
                    data[i] = file["X"][:]
        self.name = name
        self.window(data, bounds)

    def window(self, data, bounds):
        """Chooses windows that fit into some recording; a copy of theirs is what should come."""
        rng = self.rng
        offsets = sorted(rng.sample(range(-3, 6), rng.randint(1, 4)))
        if rng.random() < 0.5:
            offsets = list(range(rng.randint(1, 4)))
        pad, hop = rng.choice([None, None, "edge", "zeros"]), rng.randint(1, 4)
        longest = max(map(len, data))
        low, high = min(offsets[0], 0), max(offsets[-1], 0)
        if pad is None and high - low >= longest:
            offsets, low, high = [0], 0, 0
        for rows in data:
            # The anchor's row needs to be one of the recording, too.
            first, stop = (0, len(rows)) if pad else (-low, len(rows) - high)
            for anchor in range(first, stop, hop):
                places = anchor + np.array(offsets)
                window = rows[np.clip(places, 0, len(rows) - 1)]
                if pad == "zeros":
                    window[(places < 0) | (places >= len(rows))] = 0
                self.expected.append(window)
        given = len(offsets) if offsets == list(range(len(offsets))) else offsets
        kind = None if bounds is None else (bounds, "bounds")
        self.options |= {
            "x": self.name,
            "windows": h5v.Windows(given, hop=hop, pad=pad, bounds=kind),
        }

    def pictures(self):
        rng = self.rng
        form = rng.choice(list(FORMS))
        rows = [rng.choice(PICTURES) for _ in range(rng.randint(1, 12))]
        chunks = (rng.choice([1, 2, 5]),) if rng.random() < 0.7 and len(rows) >= 5 else None
        options = {"chunks": chunks, "maxshape": None}
        if chunks and rng.random() < 0.5:
            options["compression"] = rng.choice(["gzip", "lzf"])
        if form.startswith("padded"):
            del options["maxshape"]
        with open_new(rng, self.path) as file:
            FORMS[form](file, "X", rows, **options)
            self.name = linked(rng, file, "X")
        self.kinds[form] += 1
        with h5py.File(self.path) as file:
            found = [decoded(row_bytes(file[self.name], row)) for row in range(len(rows))]
        if form.startswith("padded"):
            self.options["decode"] = "image"
        if rng.random() < 0.4:
            self.window([np.stack(found)], None)
        else:
            self.expected, self.options["x"] = found, self.name

    def check(self):
        """Reads two epochs in any order, and perhaps repacks the files; raises if they differ."""
        rng = self.rng
        access.MEMORY_ROW_BYTES = rng.choice([-1, -1, 64, 4096])
        options = {
            "batch_size": rng.choice([1, 2, 3, 7, 100]),
            "shuffle": rng.choice([True, True, False, "blocks"]),
            "seed": rng.randrange(1000),
            "num_threads": rng.choice([1, 2, 3]),
            "read_ahead_bytes": rng.choice([None, 0, 500, 1 << 20]),
        }
        with h5v.VideoLoader(self.path, **self.options, **options) as loader:
            for _ in range(2):
                self.compare(loader)
        if "windows" not in self.options and rng.random() < 0.25:
            self.kinds["repacked"] += 1
            new = self.folder / "new.h5"
            how = rng.choice([{}, {"compression": "gzip"}, {"compression": "lzf", "chunks": None}])
            if self.kinds["pictures"]:
                how = {}
            repack(self.path, new, x=self.name, overwrite=True, **how)
            with h5v.VideoLoader(new, **self.options, **options) as loader:
                self.compare(loader)
        if rng.random() < 0.2:
            self.kinds["inspected"] += 1
            str(h5v.inspect(self.path if not isinstance(self.path, list) else self.path[0]))

    def compare(self, loader):
        seen = []
        for _, indices, (x,) in loader.batches():
            for number, value in zip(indices.tolist(), x, strict=True):
                expected = np.asarray(self.expected[number])
                native = expected.astype(expected.dtype.newbyteorder("="))
                if value.dtype != native.dtype or value.tobytes() != native.tobytes():
                    raise AssertionError(f"sample {number} is {value!r} instead of {native!r}")
                if value.shape != native.shape:
                    raise AssertionError(f"sample {number}: {value.shape}, not {native.shape}")
                seen.append(number)
        if sorted(seen) != list(range(len(self.expected))):
            raise AssertionError(f"{len(self.expected)} samples, and these came: {sorted(seen)}")


def run(cases, seed, folder):
    """Reads the files of each seed; returns what there was, and what was wrong."""
    counts, unmade, wrong = collections.Counter(), collections.Counter(), []
    for number in range(seed, seed + cases):
        place = folder / str(number)
        place.mkdir()
        case = None
        try:
            case = Case(number, place)
            case.check()
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
            # HDF5 makes no such dataset, or h5py cannot read what it made.
            if case is None and isinstance(error, (OSError, ValueError)):
                unmade[text.partition("(")[2].partition(")")[0]] += 1
            else:
                wrong.append([number, text])
        if case is not None:
            counts.update(case.kinds)
            counts["samples"] += len(case.expected)
        shutil.rmtree(place)
    counts = dict(sorted(counts.items()))
    return {"cases": cases, "counts": counts, "unmade": unmade, "wrong": wrong}


def main():
    """Runs the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = run(arguments.cases, arguments.seed, Path(folder))
    result["seconds"] = round(time.monotonic() - begun, 1)
    print(json.dumps(result, indent=1))
    sys.exit(bool(result["wrong"]))


if __name__ == "__main__":
    main()
