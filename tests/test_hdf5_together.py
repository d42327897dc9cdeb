"""Rows that HDF5 alone can read are read together: equal to h5py's, in few calls."""

import h5py
import numpy as np
import pytest
from conftest import Order
from hypothesis import given, settings
from hypothesis import strategies as st

from h5video_data import Clip, VideoLoader
from h5video_data.errors import ReadError
from h5video_data.reading import hdf5_source
from h5video_data.reading.batch import PendingBatch
from h5video_data.storage import values

pytestmark = pytest.mark.memory_limit(-1)  # everything is read, however small

NUM = 24
SHAPE = (6, 3, 4)
RNG = np.random.default_rng(0)
X = RNG.integers(0, 100, (NUM, *SHAPE), np.uint8)


def join(file, parts, source_of, shape=X.shape):
    """Makes X of `file` a virtual dataset: pairs of an index of X and the values there."""
    layout = h5py.VirtualLayout(shape, np.uint8)
    for number, (index, part) in enumerate(parts):
        layout[index] = h5py.VirtualSource(source_of(number, part), "v", part.shape)
    file.create_virtual_dataset("X", layout)


def virtual(folder, parts, **options):
    def source_of(number, part):
        with h5py.File(folder / f"source{number}.h5", "w") as source:
            source.create_dataset("v", data=part, **options)
        return f"source{number}.h5"

    with h5py.File(folder / "a.h5", "w") as file:
        join(file, parts, source_of)


def in_blocks(size):
    return [(np.s_[i : i + size], X[i : i + size]) for i in range(0, NUM, size)]


def one_by_one(folder):
    virtual(folder, [(i, X[i]) for i in range(NUM)])


def blocks(folder):
    virtual(folder, in_blocks(5))


def chunked_blocks(folder):
    virtual(folder, in_blocks(5), chunks=(2, *SHAPE), compression="gzip")


def interleaved(folder):
    virtual(folder, [(np.s_[i::3], X[i::3]) for i in range(3)], chunks=(1, *SHAPE))


def halves_of_rows(folder):
    virtual(folder, [(np.s_[:, :3], X[:, :3]), (np.s_[:, 3:], X[:, 3:])], chunks=(1, 3, 3, 4))


def same_file(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        layout = h5py.VirtualLayout(X.shape, np.uint8)
        for i in range(NUM):
            file[f"v{i}"] = X[i]
            layout[i] = h5py.VirtualSource(".", f"v{i}", SHAPE)
        file.create_virtual_dataset("X", layout)


def nested(folder):
    with h5py.File(folder / "inner.h5", "w") as file:

        def source_of(number, part):
            with h5py.File(folder / f"source{number}.h5", "w") as source:
                source["v"] = part
            return f"source{number}.h5"

        layout = h5py.VirtualLayout(X.shape, np.uint8)
        for number, (index, part) in enumerate(in_blocks(4)):
            layout[index] = h5py.VirtualSource(source_of(number, part), "v", part.shape)
        file.create_virtual_dataset("v", layout)
    with h5py.File(folder / "a.h5", "w") as file:
        join(file, [(np.s_[:], X)], lambda *_: "inner.h5")


def growing(folder):
    with h5py.File(folder / "source.h5", "w") as file:
        file.create_dataset("v", data=X, chunks=(1, *SHAPE), maxshape=(None, *SHAPE))
        with h5py.File(folder / "a.h5", "w") as file:
            layout = h5py.VirtualLayout(X.shape, np.uint8, maxshape=(None, *SHAPE))
            source = h5py.VirtualSource("source.h5", "v", X.shape, maxshape=(None, *SHAPE))
            layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
            file.create_virtual_dataset("X", layout)


def external(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        path = str(folder / "a.raw")
        file.create_dataset("X", X.shape, np.uint8, external=[(path, 0, X.nbytes)])[...] = X


def compact(folder):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    with h5py.File(folder / "a.h5", "w") as file:
        space = h5py.h5s.create_simple(X.shape)
        created = h5py.h5d.create(file.id, b"X", h5py.h5t.NATIVE_UINT8, space, plist)
        h5py.Dataset(created)[...] = X


def scale_offset(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("X", data=X, chunks=(4, 3, 3, 2), scaleoffset=0)


def array_type(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        item = np.dtype((np.uint8, SHAPE[1:]))
        raw = str(folder / "a.raw")
        file.create_dataset("X", (NUM, SHAPE[0]), item, external=[(raw, 0, X.nbytes)])[...] = X


FILES = [
    one_by_one,
    blocks,
    chunked_blocks,
    interleaved,
    halves_of_rows,
    same_file,
    nested,
    growing,
    external,
    compact,
    scale_offset,
    array_type,
]


@pytest.fixture(params=FILES, ids=lambda write: write.__name__, scope="module")
def path(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.__name__)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        request.param(folder)
    return folder / "a.h5"


def read(path, positions, **options):
    """The samples of one batch, which is the whole epoch."""
    with VideoLoader(
        path, y=None, shuffle=Order(positions), batch_size=len(positions), num_threads=1, **options
    ) as loader:
        (component,) = loader._set.components
        assert {access.kind for access in component.accesses} == {"h5py"}
        firsts, start = [], PendingBatch.__init__
        with pytest.MonkeyPatch.context() as patch:

            def noting(self, *args, **kwargs):
                start(self, *args, **kwargs)
                firsts.append(self.first_frames)

            patch.setattr(PendingBatch, "__init__", noting)
            (x,) = list(loader)
        return x, firsts[0], loader.stats.num_reads


POSITIONS = st.lists(st.integers(0, NUM - 1), min_size=1, max_size=40)
CLIPS = st.none() | st.builds(
    Clip,
    st.integers(1, 2),
    st.integers(1, 4),
    st.sampled_from(["random", "center", "start"]),
    axis=st.just(0),
)
# Rows are read together always, if they are few values, or never.
LIMITS = st.sampled_from([(0, 10**6), (100, 8 << 10), (0, 0)])


@settings(max_examples=15)
@given(positions=POSITIONS, clip=CLIPS, limits=LIMITS)
def test_values_are_those_of_h5py(path, positions, clip, limits):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hdf5_source, "FEW_VALUES", limits[0])
        patch.setattr(hdf5_source, "LEAST_TOGETHER_NBYTES", limits[1])
        if not limits[1]:
            patch.setattr(hdf5_source, "TOGETHER_NBYTES", 0)
        x, firsts, _ = read(path, positions, clip=clip)
    with h5py.File(path) as file:
        expected = np.stack([file["X"][position] for position in positions])
    np.testing.assert_array_equal(expected, X[positions])
    if clip is not None:
        frames = [clip.frames(int(first)) for first in firsts]
        expected = np.stack([row[part] for row, part in zip(expected, frames, strict=True)])
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(
    ("write", "expected"), [(one_by_one, 1), (blocks, 1), (chunked_blocks, 4), (external, 1)]
)
def test_few_calls(tmp_path, monkeypatch, write, expected):
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    monkeypatch.setattr(hdf5_source, "FEW_VALUES", 0)
    # At most four of the chunked rows are of one source, and none follow each other.
    positions = np.array([22, 0, 2, 16, 4, 11, 18, 5, 7, 13, 20, 9])
    monkeypatch.setattr(hdf5_source, "LEAST_TOGETHER_NBYTES", 10**6)
    x, _, num_reads = read(tmp_path / "a.h5", positions)
    np.testing.assert_array_equal(x, X[positions])
    assert num_reads <= expected


def test_one_bad_row_is_the_one_that_is_named_and_skipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one_by_one(tmp_path)
    read_together = values.Values.read_together

    def together(self, selections, *arguments):
        if any(part[0].start == 9 for part in selections):
            with self.reading(*selections):
                raise OSError("a damaged chunk")
        read_together(self, selections, *arguments)

    def each(self, selections, out, targets):
        for selection, target in zip(selections, targets, strict=True):
            together(self, [selection], out, np.array([target]))

    monkeypatch.setattr(values.Values, "read_together", together)
    monkeypatch.setattr(values.Values, "read_each", each)
    positions = np.array([3, 9, 1, 20])
    with pytest.raises(ReadError, match=r"sample 9: a damaged chunk"):
        read(tmp_path / "a.h5", positions)
    with VideoLoader(
        tmp_path / "a.h5", y=None, shuffle=Order(positions), batch_size=4, on_error="skip"
    ) as loader:
        (x,) = list(loader)
    np.testing.assert_array_equal(x, X[[3, 1, 20]])
