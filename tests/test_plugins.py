"""Filters that only hdf5plugin has: loaded where something needs them."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from odd_types import nine_bits

import h5video_data as h5v
from h5video_data import VideoLoader
from h5video_data.testing import sample_values, write_video_file

ONE = (1, 4, 3, 8, 8)


@pytest.fixture
def compressed(tmp_path):
    path = write_video_file(tmp_path / "z.h5", chunks=ONE, **hdf5plugin.Zstd())
    with h5py.File(path, "a") as file:
        options = {"chunks": (8,), **hdf5plugin.Blosc()}
        file.create_dataset("source", data=np.arange(20) // 4, **options)
        options = {"chunks": ONE, **hdf5plugin.Bitshuffle()}
        data = sample_values(np.arange(20))
        file.create_dataset("odd", data=data, dtype=nine_bits(file), **options)
        layout = h5py.VirtualLayout((20, *ONE[1:]), "u1")
        layout[...] = h5py.VirtualSource(".", "X", (20, *ONE[1:]))
        file.create_virtual_dataset("virtual", layout)
    write_video_file(tmp_path / "plain.h5", chunks=ONE)
    return path


def in_a_process_of_its_own(code, folder):
    """Runs code; returns the words that it prints, and whether it imported hdf5plugin."""
    code = f"import sys, h5video_data as h5v\n{code}\nprint('hdf5plugin' in sys.modules)"
    run = [sys.executable, "-c", code]
    env = {**os.environ, "PYTHONPATH": str(Path(h5v.__file__).parents[1])}
    done = subprocess.run(run, cwd=folder, env=env, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    *printed, is_imported = done.stdout.split()
    return printed, is_imported == "True"


SPLIT = "validation_split=0.3, subset='training', split_by='source', seed=1"


WITH_PLUGIN = {
    "repack": ("h5v.repack('z.h5', 'out.h5')", []),
    "repack with dropped rows": (
        (
            "import h5py\nwith h5py.File('z.h5', 'a') as f: f.attrs['sample_count'] = 9\n"
            "print(h5v.repack('z.h5', 'out.h5').num_samples)"
        ),
        ["9"],
    ),
    "split_by": (f"print(h5v.VideoLoader('z.h5', {SPLIT}).num_samples)", ["16"]),
    "labels": (
        "y = next(iter(h5v.VideoLoader('z.h5', y='source', shuffle=False)))[1]\nprint(*y[:6])",
        ["0", "0", "0", "0", "1", "1"],
    ),
    "by h5py": (
        (
            "x = next(iter(h5v.VideoLoader('z.h5', x='odd', y=None, shuffle=False)))\n"
            "print((x == h5v.testing.sample_values(range(20))).all())"
        ),
        ["True"],
    ),
    "a virtual dataset": (
        (
            "x = next(iter(h5v.VideoLoader('z.h5', x='virtual', y=None, shuffle=False)))\n"
            "print((x == h5v.testing.sample_values(range(20))).all())"
        ),
        ["True"],
    ),
}


WITHOUT_PLUGIN = {
    "decoded here": "list(h5v.VideoLoader('z.h5'))",
    "inspect": "h5v.inspect('z.h5')",
    "nothing to decode": "h5v.VideoLoader('plain.h5', seed=1).state_dict(epoch=0, step=1)",
}


@pytest.mark.parametrize(("code", "printed"), WITH_PLUGIN.values(), ids=WITH_PLUGIN)
def test_filters_that_only_hdf5plugin_has(compressed, code, printed):
    found = in_a_process_of_its_own(code, os.path.dirname(compressed))
    assert found == (printed, True)


@pytest.mark.parametrize("code", WITHOUT_PLUGIN.values(), ids=WITHOUT_PLUGIN)
def test_hdf5plugin_is_not_imported_where_nothing_needs_it(compressed, code):
    if "inspect" in code:  # of a virtual dataset, the source's filters are asked for
        with h5py.File(compressed, "a") as file:
            del file["virtual"]
    assert in_a_process_of_its_own(code, os.path.dirname(compressed)) == ([], False)


def test_a_state_is_the_same_with_and_without_hdf5plugin(compressed):
    code = "print(h5v.VideoLoader('z.h5', seed=1).state_dict(epoch=0, step=1))"
    printed, _ = in_a_process_of_its_own(code, os.path.dirname(compressed))
    with VideoLoader(compressed, seed=1) as loader:
        assert " ".join(printed) == str(loader.state_dict(epoch=0, step=1))
    with h5py.File(compressed, "a") as file:
        file["X"][...] = 9
    with VideoLoader(compressed, seed=1) as loader:
        assert " ".join(printed) != str(loader.state_dict(epoch=0, step=1))
