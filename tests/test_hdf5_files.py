"""Damaged files: `inspect` reports what is whole, and all errors are those of this package."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data import VideoLoader
from h5video_data.errors import ReadError, UnavailableError
from h5video_data.storage import hdf5_files
from h5video_data.testing import write_video_file


def test_what_cannot_be_opened_is_a_problem_and_the_rest_is_told(tmp_path):
    path = write_video_file(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["bad"] = np.arange(4)
        place = h5py.h5o.get_info(file["bad"].id).addr
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 8)
    report = h5v.inspect(path)
    assert sorted(item.name for item in report.datasets) == ["X", "Y"]
    assert report.problems == ("'bad' is damaged: HDF5 cannot open it",)
    assert VideoLoader(path).num_samples == 20


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize(
    ("content", "call"), [("samples", "None"), ("recordings", 'bounds="episode"))')]
)
def test_inspect_of_damaged_files(tmp_path, libver, content, call):
    script = Path(__file__).with_name("fuzz_inspection.py")
    env = {**os.environ, "PYTHONPATH": str(Path(h5v.__file__).parents[1])}
    run = [sys.executable, script, content, libver, "0", "100"]
    done = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    whole, *lines = done.stdout.splitlines()
    assert whole.endswith(call)
    assert [line for line in lines if line.startswith("foreign")] == []
    # HDF5 itself dies of some (1.14.6: one in 400), whoever calls it.
    assert len(lines) <= 4, done.stdout


def test_a_version_that_hdf5_does_not_know_is_its_error(tmp_path):
    path = write_video_file(tmp_path / "a.h5")
    with open(path, "r+b") as file:
        file.seek(8)  # behind the signature
        file.write(b"\x63")
    with pytest.raises(ReadError, match=r"cannot open .*a\.h5\. HDF5 error: .*superblock version"):
        VideoLoader(path)


def test_what_the_system_refuses_is_told_by_its_number(tmp_path, monkeypatch):
    path = str(write_video_file(tmp_path / "a.h5"))

    def refuse(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(hdf5_files.h5py, "File", refuse)
    with pytest.raises(UnavailableError, match=r"cannot open .*a\.h5: .*ulimit -n"):
        hdf5_files.connect(path)


def test_equal_values_are_one_until_there_are_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_files, "_VALUES_SHARED", 2)
    with hdf5_files.open_file(str(write_video_file(tmp_path / "a.h5"))) as file:
        opened = hdf5_files.OpenedFile.of(file)
        first = (1, 2)
        assert opened.shared(first) is first
        assert opened.shared(tuple([1, 2])) is first  # noqa: C409
        assert opened.shared((3, 4)) == (3, 4)
        assert opened.shared((5, 6)) == (5, 6)
        assert len(opened._shared) == 1


@pytest.mark.slow
def test_hdf5_keeps_little_of_many_datasets_but_a_long_list_of_links(tmp_path):
    names = [f"{number:0250}" for number in range(20_000)]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(6000):
            file[f"{number}/X"] = np.zeros((2, 2), np.uint8)
        shared = file["0/X"]
        long = file.create_group("long")
        for name in names:
            long[name] = shared
    sizes = {}
    for how in (h5py.File, hdf5_files.open_file):
        with how(str(tmp_path / "a.h5")) as file:
            for number in range(6000):
                file[f"{number}/X"].shape  # noqa: B018
            sizes[how] = file.id.get_mdc_size()[0]
    assert sizes[hdf5_files.open_file] <= 2 << 20 < sizes[h5py.File]
    with hdf5_files.open_file(str(tmp_path / "a.h5")) as file:
        group = file["long"]
        file.id.reset_mdc_hit_rate_stats()
        for name in names[::100]:
            assert group[name].shape == (2, 2)
        # It is one piece of 5 MB, and read once.
        assert file.id.get_mdc_size()[0] > 5 << 20
        assert file.id.get_mdc_hit_rate() > 0.8
    with hdf5_files.open_file(str(tmp_path / "a.h5"), rdcc_nbytes=1 << 20) as file:
        for number in range(6000):
            file[f"{number}/X"].shape  # noqa: B018
        assert file.id.get_mdc_size()[0] > 2 << 20  # where values are read, in any order
