"""The data of an open set: shapes, bytes, samples that are decoded together, values of labels."""

import h5py
import numpy as np
import pytest

from h5video_data import Clip, Windows
from h5video_data.errors import FileFormatError
from h5video_data.opening import open_video_set
from h5video_data.set_values import read_values
from h5video_data.testing import labels, write_video_file

SHAPE = (8, 3, 5, 6)
GZIP = {"compression": "gzip"}


def write(folder, number, num_samples, first=0, **options):
    return write_video_file(
        folder / f"{number}.h5", num_samples=num_samples, sample_shape=SHAPE, first=first, **options
    )


def test_shapes_and_bytes(tmp_path):
    paths = [write(tmp_path, 0, 3, dtype="<u2"), write(tmp_path, 1, 4, dtype="<u2")]
    opened = open_video_set(paths, "X", "Y", clip=Clip(2, stride=3))
    assert (opened.num_samples, opened.counts.tolist()) == (7, [3, 4])
    x, y = opened.components
    assert (x.num_frames, x.sample_shape, x.dtype) == (8, (2, 3, 5, 6), np.uint16)
    assert x.sample_nbytes == 2 * 3 * 5 * 6 * 2
    assert x.nbytes == 7 * 8 * 3 * 5 * 6 * 2
    assert (y.sample_shape, y.sample_nbytes, y.is_in_memory) == ((4,), 16, True)
    assert opened.sample_nbytes == x.sample_nbytes + 16


@pytest.mark.parametrize(
    ("options", "num_rows"),
    [({}, 1), ({"chunks": (1, *SHAPE), **GZIP}, 1), ({"chunks": (4, *SHAPE), **GZIP}, 4)],
    ids=["contiguous", "one", "many"],
)
def test_samples_that_are_decoded_together(tmp_path, options, num_rows):
    paths = [write(tmp_path, 0, 10, **options), write(tmp_path, 1, 5, **options)]
    numbers, nbytes = open_video_set(paths, "X", None).chunk_rows()
    first, second = np.arange(10) // num_rows, np.arange(5) // num_rows
    assert numbers.tolist() == [*first, *(second + first[-1] + 1)]
    assert nbytes == num_rows * np.prod(SHAPE)


def test_elements_have_the_form_that_keras_takes(tmp_path):
    path = write(tmp_path, 0, 3)
    for x, y, expected in [
        ("X", None, "X"),
        ("X", "Y", ("X", "Y")),
        ({"a": "X", "b": "X"}, "Y", ({"a": "X", "b": "X"}, "Y")),
        ("X", {"c": "Y"}, ("X", {"c": "Y"})),
    ]:
        opened = open_video_set(path, x, y)
        assert opened.build(lambda number, of=opened: of.components[number].name) == expected
        assert len(opened.components) == 1 + (y is not None)


def test_values_of_several_files(tmp_path):
    paths = [write(tmp_path, 0, 3), write(tmp_path, 1, 4, first=3)]
    for number, path in enumerate(paths):
        with h5py.File(path, "a") as file:
            file["id"] = [f"{number} {row}" for row in range(9)]  # more than there are samples
    opened = open_video_set(paths, "X", "Y")
    np.testing.assert_array_equal(read_values(opened, "Y"), labels(np.arange(7), 4))
    expected = [f"0 {row}".encode() for row in range(3)] + [f"1 {row}".encode() for row in range(4)]
    assert read_values(opened, "id").tolist() == expected


def test_too_few_values(tmp_path):
    path = write(tmp_path, 0, 3)
    with h5py.File(path, "a") as file:
        file["id"] = [1, 2]
        file["one"] = 1
    opened = open_video_set(path, "X", "Y")
    for name in ("id", "one"):
        with pytest.raises(FileFormatError, match=f"'{name}' .* each of the 3 samples"):
            read_values(opened, name)


def test_arrays_do_not_change_what_is_decoded_together(tmp_path):
    path = write(tmp_path, 0, 10, chunks=(4, *SHAPE), **GZIP)
    numbers, nbytes = open_video_set(path, "X", None).chunk_rows()
    for y in (np.arange(10), {"a": np.arange(10), "b": "Y"}):
        found, found_nbytes = open_video_set(path, "X", y).chunk_rows()
        assert (found.tolist(), found_nbytes) == (numbers.tolist(), nbytes)


def test_recordings_that_are_skipped(tmp_path):
    path = write(tmp_path, 0, 5)
    assert open_video_set(path, "X", None).skipped_recordings() == []
    with h5py.File(path, "a") as file:
        file["ends"] = [1, 5]
    windows = Windows(2, bounds=("ends", "ends"))
    ((place, num_rows),) = open_video_set(path, "X", None, windows=windows).skipped_recordings()
    assert (place.path, place.name, place.row, num_rows) == (path, "/X", 0, 1)
