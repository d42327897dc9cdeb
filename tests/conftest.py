"""Settings, fixtures and helpers that several test files share, and the marks `tf` and `slow`.

    pytest -m "not tf and not slow"    under a minute; TensorFlow is not imported
    pytest -n auto                     everything, by all processors

A test gets the marks by what it calls (`mark_by_names`), or by hand. In a run with `-m "not tf"` an
import of TensorFlow is an error, so a test that lacks its mark fails there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import os
import re
import sys
import threading
import time
from types import CodeType, FunctionType

import h5py
import numpy as np
import pytest
import race_helpers
from hypothesis import HealthCheck, settings

from h5video_data import testing
from h5video_data.planning import access
from h5video_data.reading import buffers

# However long an example takes: the machine may be busy.
settings.register_profile("any load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any load")

# --------------------------------------------------------------------------- marks

TENSORFLOW = ("tensorflow", "keras", "tf_keras")
TF_NAMES = {*TENSORFLOW, "tf", "dataset", "video_dataset_from_hdf5"}
SLOW_NAMES = {"subprocess", "fork"}
IMPORTS_TENSORFLOW = re.compile(
    rf"^(?:import|from) (?:{'|'.join(TENSORFLOW)}|h5video_data\.tfdata)\b", re.MULTILINE
)


class TensorFlow:
    """The module `tensorflow`, imported when a test first uses it and not when it is collected."""

    def __getattr__(self, name):
        if name.startswith("_"):  # pytest asks whether it is a fixture
            raise AttributeError(name)
        return getattr(importlib.import_module("tensorflow"), name)


tf = TensorFlow()


class RefuseTensorFlow:
    """An importer that fails where a test without the mark `tf` imports TensorFlow or Keras."""

    def find_spec(self, name, path=None, target=None):  # noqa: ARG002
        if name.partition(".")[0] in TENSORFLOW:
            raise ImportError(f'{name} was imported in a run with -m "not tf": mark the test `tf`')


def leaves_out_tensorflow(config):
    return "not tf" in config.option.markexpr


def pytest_configure(config):
    if os.environ.get("H5VIDEO_RACES"):
        race_helpers.install()
    if leaves_out_tensorflow(config):
        sys.meta_path.insert(0, RefuseTensorFlow())


@functools.cache
def imports_tensorflow(path):
    return path.suffix == ".py" and bool(IMPORTS_TENSORFLOW.search(path.read_text()))


def pytest_ignore_collect(collection_path, config):
    """Does not even import a test file that imports TensorFlow at its top."""
    if leaves_out_tensorflow(config) and imports_tensorflow(collection_path):
        return True
    return None


@functools.cache
def names_used(function, module):
    """The names in a function's code, and in that of what it calls in its module."""
    seen = set()
    add_names(function, module, seen)
    return seen


def add_names(value, module, seen):
    if isinstance(value, CodeType):
        for name in {*value.co_names} - seen:
            seen.add(name)
            add_names(getattr(module, name, None), module, seen)
        for constant in value.co_consts:
            add_names(constant, module, seen)
    elif isinstance(value, FunctionType) and value.__module__ == module.__name__:
        add_names(value.__code__, module, seen)
    elif isinstance(value, type) and value.__module__ == module.__name__:
        for member in vars(value).values():
            add_names(member, module, seen)


def mark_by_names(item):
    functions = [item.function]
    functions += [fixture[-1].func for fixture in item._fixtureinfo.name2fixturedefs.values()]
    if hasattr(item, "callspec"):
        functions += [v for v in item.callspec.params.values() if isinstance(v, FunctionType)]
    names = set().union(*(names_used(function, item.module) for function in functions))
    if names & TF_NAMES or imports_tensorflow(item.path):
        item.add_marker("tf")
    if names & SLOW_NAMES:
        item.add_marker("slow")


@pytest.hookimpl(tryfirst=True)  # before tests are deselected by their marks
def pytest_collection_modifyitems(items):
    for item in items:
        mark_by_names(item)


# --------------------------------------------------------------------------- this process


def wait_until(condition, seconds=60):
    """Waits until `condition()` is true; fails if it is not by then. `seconds` bounds a hang."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def package_threads(prefix="h5video_data"):
    return {thread for thread in threading.enumerate() if thread.name.startswith(prefix)}


def open_descriptors(folder="/"):
    """The paths, or names such as "pipe:[7]", of the open files; with a folder, of those in it."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that listed them
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    if folder == "/":
        return found
    return [name for name in found if name.startswith(f"{os.fspath(folder)}/")]


def resident_nbytes():
    """The physical memory that this process takes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def send_with(monkeypatch):
    """Returns a function that changes defaults of `remote_options` for a test."""
    from h5video_data.storage.remote import request_options

    def change(**options):
        found = dataclasses.replace(request_options.DEFAULTS, **options)
        monkeypatch.setattr(request_options, "DEFAULTS", found)

    return change


@pytest.fixture
def new_threads():
    """Gives the threads of the package that the test has started and that still run."""
    before = package_threads()
    return lambda: package_threads() - before


# --------------------------------------------------------------------------- the package


@pytest.fixture(autouse=True)
def memory_limit(request):
    """Datasets with samples of up to so many bytes are kept in memory, as small labels are.

    The mark `memory_limit(64)` has the small samples of the tests read, like large ones, and not
    their labels; -1 the labels as well.
    """
    mark = request.node.get_closest_marker("memory_limit")
    with pytest.MonkeyPatch.context() as patch:
        if mark:
            patch.setattr(access, "MEMORY_ROW_BYTES", *mark.args)
        yield


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory):
    """The working directory is one of the module's own: tests write files by relative names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("module"))
        yield


POISON = 0xA5


@pytest.fixture(scope="module")
def poisoned_buffers():
    """New buffers are full of rubbish."""
    aligned_empty = buffers.aligned_empty

    def poisoned(num_bytes):
        block = aligned_empty(num_bytes)
        block[:] = POISON
        return block

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buffers, "aligned_empty", poisoned)
        yield


# --------------------------------------------------------------------------- files and orders


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    """A file for each number of samples; X holds the sample's number, Y its class of 3."""
    folder = tmp_path_factory.mktemp("sizes")

    def write(num_samples):
        path = folder / f"{num_samples}.h5"
        if not path.exists():
            numbers = np.arange(num_samples)
            with h5py.File(path, "w") as file:
                file["X"] = np.repeat(numbers[:, np.newaxis], 20, axis=1)
                file["Y"] = testing.labels(numbers, 3)
                file["group"] = [f"g{i % 7}" for i in numbers]
                file["number"] = numbers % 7
        return path

    return write


def numbers_of(batches):
    """The numbers of the samples in an epoch of a file of `sizes`."""
    return np.concatenate([np.atleast_2d(x)[:, 0] for x, _ in batches]).tolist()


class Order:
    """A sampler that gives the same positions in every epoch."""

    def __init__(self, positions):
        self.positions = np.asarray(positions, np.int64)

    def epoch(self, epoch):
        del epoch
        return self.positions
