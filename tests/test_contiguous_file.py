from __future__ import annotations

import h5py
import numpy as np
import pytest

from h5video_data.errors import ArgumentError, RepackingError
from h5video_data.tools.repacking.contiguous_file import ContiguousFile

FORMS = [((3, 5), np.dtype("u1")), ((7,), np.dtype("f8")), ((), np.dtype("<i2"))]
ROWS = 10


class Killed(BaseException):
    pass


def values(begin, stop):
    rng = np.random.default_rng(0)
    whole = [rng.integers(0, 100, (ROWS, *shape)).astype(dtype) for shape, dtype in FORMS]
    return [item[begin:stop] for item in whole]


def new_file(out, **options):
    options = {"signature": ["a"], "overwrite": False, "error_type": RepackingError, **options}
    return ContiguousFile(out, FORMS, ROWS, **options)


def finish(file):
    def write(target, datasets):
        for name, dataset in zip("abc", datasets, strict=True):
            target[name] = dataset
        target["else"] = np.arange(100)

    file.finish(write)


def check(out):
    with h5py.File(out) as file:
        for name, expected in zip("abc", values(0, ROWS), strict=True):
            assert file[name].chunks is None
            np.testing.assert_array_equal(file[name], expected)
        assert file["else"][:].tolist() == list(range(100))


def write_six_and_die(file):
    with file.opened():
        for begin in (0, 2, 4):
            file.append(values(begin, begin + 2))
        raise Killed


def write_all(file, moved=0):
    with file.opened():
        file.append(values(0, ROWS))
        file._starts[1] += moved
        finish(file)


def interrupted(out, monkeypatch, **options):
    """Leaves a file of six samples behind, as a kill does."""
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", lambda *_, **__: None)
        with pytest.raises(Killed):
            write_six_and_die(new_file(out, **options))
    return out.with_name(f"{out.name}.partial")


def go_on(out, **options):
    """Returns how many samples were there."""
    file = new_file(out, **options)
    with file.opened():
        done = file.num_rows
        file.append(values(done, ROWS))
        finish(file)
    check(out)
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    return done


def test_several_datasets(tmp_path):
    assert go_on(tmp_path / "a.h5") == 0


def test_it_goes_on(tmp_path, monkeypatch):
    interrupted(tmp_path / "a.h5", monkeypatch)
    assert go_on(tmp_path / "a.h5") == 6


def test_another_signature(tmp_path, monkeypatch):
    interrupted(tmp_path / "a.h5", monkeypatch)
    assert go_on(tmp_path / "a.h5", signature=["b"]) == 0


@pytest.mark.parametrize("number", range(3))
def test_bytes_that_are_not_as_they_were(tmp_path, monkeypatch, number):
    partial = interrupted(tmp_path / "a.h5", monkeypatch)
    data = bytearray(partial.read_bytes())
    third = values(3, 4)[number].tobytes()
    at = data.index(values(2, 4)[number].tobytes()) + len(third)
    data[at] ^= 1
    partial.write_bytes(data)
    assert go_on(tmp_path / "a.h5") == 2  # the batches before it


@pytest.mark.parametrize(("left", "done"), [(-1, 4), (-20, 4), (1, 0)])
def test_a_journal_that_was_cut(tmp_path, monkeypatch, left, done):
    partial = interrupted(tmp_path / "a.h5", monkeypatch)
    journal = partial.with_name(f"{partial.name}.journal")
    journal.write_text(journal.read_text()[:left])
    assert go_on(tmp_path / "a.h5") == done


def test_a_file_that_is_complete(tmp_path):
    out = tmp_path / "a.h5"
    file = new_file(out, keeps_journal=True)
    file.result = {"skipped": [1, 2]}
    write_all(file)
    again = new_file(out)
    assert (again.is_complete, again.result) == (True, {"skipped": [1, 2]})
    for options in ({"signature": ["b"]}, {"signature": None}):
        with pytest.raises(ArgumentError, match="`out` exists"):
            new_file(out, **options)
    file.remove_journal()
    with pytest.raises(ArgumentError, match="`out` exists"):
        new_file(out)
    check(out)


def test_what_is_left_between_the_journal_and_the_name(tmp_path, monkeypatch):
    out = tmp_path / "a.h5"

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", lambda *_, **__: None)
        patch.setattr("os.replace", killed)
        with pytest.raises(Killed):
            write_all(new_file(out))
    assert not out.exists()
    file = new_file(out)
    assert not file.is_complete
    with file.opened():
        assert file.num_rows == ROWS
        finish(file)
    check(out)


def test_hdf5_puts_samples_elsewhere(tmp_path):
    with pytest.raises(RepackingError, match="HDF5 has put the samples at bytes"):
        write_all(new_file(tmp_path / "a.h5"), moved=4096)
    assert not list(tmp_path.iterdir())


def test_two_processes_do_not_write_one_file(tmp_path):
    first, second = new_file(tmp_path / "a.h5"), new_file(tmp_path / "a.h5")
    with first.opened():
        with pytest.raises(ArgumentError, match="Another process is writing `out`"):
            second.opened().__enter__()
        first.append(values(0, ROWS))
        finish(first)
    check(tmp_path / "a.h5")
