"""What a file holds: its datasets, what is wrong with it, and how it is opened."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from h5video_data.errors import H5VideoError
from h5video_data.storage.attributes import (
    SAMPLE_COUNT,
    read_attribute,
    read_class_names,
    read_sample_count,
)
from h5video_data.storage.external_storage import check_external
from h5video_data.storage.hdf5_files import HDF5_ERRORS, OpenedFile, open_file
from h5video_data.storage.hdf5_names import find_dataset, list_names
from h5video_data.storage.values import Values
from h5video_data.tools.openings import Opening
from h5video_data.tools.schemas import Rows, recordings_opening, samples_opening

from .advice import Facts
from .facts import facts_of
from .report import DatasetReport, FileReport

_GROUPS_ASKED = 64  # for their `sample_count`


def find_opening(path: str) -> Opening | None:
    """Finds out how to open a file: what `call` or `sample_call` of its report say."""
    with open_file(path) as file:
        found = read_file(file, None)
        report = FileReport(path, 0, None, None, tuple(found.reports), ())
        return opening_of(file, report, found.linked)


@dataclass(eq=False)
class Found:
    """What a file holds."""

    reports: list[DatasetReport]
    facts: list[Facts]
    problems: list[str]
    linked: set[str]
    sample_count: int | None = None
    class_names: tuple[str, ...] | None = None


def read_file(file: Any, read_ahead_bytes: int | None) -> Found:
    """Reads what an open `h5py.File` holds, without its values."""
    own, linked, problems = list_names(file)
    names, opened = own + linked, OpenedFile.of(file)
    found = Found([], [], problems, set(linked))
    for item in names:
        try:
            facts = facts_of(opened, item, problems, read_ahead_bytes)
        except HDF5_ERRORS as error:
            problems.append(f"the dataset {item!r} is damaged: {error}")
            continue
        if isinstance(facts, Facts):
            found.facts.append(facts)
        found.reports.append(facts.report if isinstance(facts, Facts) else facts)
    lengths = [report.shape[0] for report in found.reports if report.name == "X" and report.shape]
    with _noting(problems):
        if read_attribute(file, "/", SAMPLE_COUNT) is not None:
            longest = max(lengths, default=2**63)
            found.sample_count = read_sample_count(file, "X", longest).num_samples
    with _noting(problems):
        found.class_names = read_class_names(file)
    for report in found.reports:
        if report.storage == "external" and report.path != "none":
            with _noting(problems):  # external files may lack rows that are in use
                count = read_sample_count(file, report.name, report.shape[0]).num_samples
                check_external(find_dataset(file, report.name), count)
    if not names:
        problems.append("it holds no dataset")
    return found


def opening_of(file: Any, report: FileReport, linked: set[str]) -> Opening | None:
    """Finds out how to open a file: as recordings, or as samples."""
    opening = _opening_of(file, report, linked)
    if opening is None:
        return None
    pattern = re.escape(opening.x).replace(r"\*", "[^/]*")
    of_x = [item for item in report.datasets if re.fullmatch(pattern, item.name)]
    looks = [item.pictures for item in of_x if item.pictures is not None]
    sizes = [size for look in looks for size in look.sizes]
    return opening._replace(
        decode="image" if any(item.is_padded for item in of_x) else "auto",
        image_size=sizes[0] if len(set(sizes)) > 1 else None,
    )


def _opening_of(file: Any, report: FileReport, linked: set[str]) -> Opening | None:
    datasets = [
        Rows(item.name, item.shape, item.dtype, item.nbytes, item.path != "none")
        for item in report.datasets
    ]
    # Under its own name, if it has one: a link is a second one.
    own = [item for item in datasets if item.name not in linked]
    if not _counts_samples(file, report):

        def read(name: str) -> NDArray[Any]:
            dataset = find_dataset(file, name)
            return Values(dataset).read(slice(0, len(dataset)))

        found = recordings_opening(own, read)
        if found is None and linked:
            found = recordings_opening(datasets, read)
        if found is not None:
            return found
    return samples_opening(own) or samples_opening(datasets)


def _counts_samples(file: Any, report: FileReport) -> bool:
    """Whether a group has a `sample_count`: its rows are samples then."""
    groups = ("/".join(item.name.split("/")[:-1]) for item in report.datasets[:_GROUPS_ASKED])
    for group in {"/", *groups}:
        with contextlib.suppress(H5VideoError):  # which is among the problems
            if read_attribute(file, group or "/", SAMPLE_COUNT) is not None:
                return True
    return False


@contextlib.contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """Adds an error to the problems instead of raising it."""
    try:
        yield
    except H5VideoError as error:
        problems.append(str(error))
