"""`inspect`: how the datasets of a file are stored and read, and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np

from h5video_data.arguments import check_whole_number
from h5video_data.errors import ArgumentError, H5VideoError
from h5video_data.splits import class_counts
from h5video_data.storage.external import allows_external
from h5video_data.storage.hdf5_files import HDF5_ERRORS, file_identity, open_file
from h5video_data.storage.paths import single_path
from h5video_data.storage.system import memory_nbytes

from .inspecting.advice import Facts, advise
from .inspecting.file_facts import opening_of, read_file
from .inspecting.opened_set import OpenedSet
from .inspecting.page import ChunkMap, report_page
from .inspecting.probe import probe_datasets, probe_set, with_prediction
from .inspecting.report import Advice, DatasetReport, FileReport
from .inspecting.text import families, size_text
from .openings import Opening
from .show import show

__all__ = ["Advice", "DatasetReport", "FileReport", "inspect", "size_text"]

# Of a page: clips, and their frames; maps, and what they draw.
_CLIPS, _FRAMES = 6, 6
_MAPS, _MAP_ROWS, _MAP_BOXES = 4, 24, 400


@allows_external
def inspect(
    path: str | os.PathLike[str],
    *,
    probe: bool = False,
    read_ahead_bytes: int | None = None,
    html: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    remote_options: Mapping[str, Any] | None = None,
    allow_external: bool = False,
) -> FileReport:
    """Tells how the datasets of an HDF5 file are stored and how they will be read.

    Args:
        path: The file's path, or a URL that fsspec opens.
        probe: Whether to read and decode for two seconds, to predict the samples per second of
            shuffled batches on this machine. What the page cache holds is read from there.
        read_ahead_bytes: Memory for reading, see `video_dataset_from_hdf5`.
        html: A file to write as well, which is replaced if it exists: a page that needs no network,
            with samples to look at, labels, and how samples lie in chunks.
        storage_options: Of a URL, see `video_dataset_from_hdf5`.
        remote_options: Likewise.
        allow_external: Whether the file may lead to others outside of its folder, see
            `video_dataset_from_hdf5`.

    Returns:
        The report. Print it.

    Raises:
        VideoFileNotFoundError: There is no such file.
        NotHDF5Error: It is not an HDF5 file, or its end is missing.
        FileInUseError: It is open for writing elsewhere.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentError(f"`path` must be a path. Received: path={path!r}")
    check_whole_number("read_ahead_bytes", read_ahead_bytes, 0, or_none=True)
    name = single_path(path, storage_options, remote_options)
    with open_file(name) as file:
        found = read_file(file, read_ahead_bytes)
        report = FileReport(
            path=str(name),
            nbytes=file_identity(file).num_bytes,
            sample_count=found.sample_count,
            class_names=found.class_names,
            datasets=tuple(found.reports),
            problems=tuple(found.problems),
            read_ahead_bytes=read_ahead_bytes,
        )
        opening = opening_of(file, report, found.linked)
    opened: OpenedSet | None = None
    failure: Exception | None = None
    if opening is not None:
        opening = opening._replace(allow_external=allow_external)
        call = opening.call(name, has_options=bool(storage_options))
        if opening.num_frames is None:
            report = replace(report, sample_call=call)
        else:
            report = replace(report, call=call)
        opened, failure = _opened(name, opening, read_ahead_bytes)
        if failure is not None and str(failure) not in report.problems:
            report = replace(report, problems=(*report.problems, str(failure)))
        if opened is not None and opening.y is not None and opening.num_frames is None:
            report = replace(report, class_counts=_class_counts(opened))
    given = advise(
        found.facts,
        memory_nbytes=memory_nbytes(),
        names=[item.name for item in report.datasets],
        has_options=bool(storage_options),
    )
    advice: dict[str, Advice] = {}
    of_dataset: dict[str, list[str]] = {}
    for facts, item in given:
        of_dataset.setdefault(facts.report.name, []).append(str(item))
        known = advice.get(str(item), item)
        names = (*known.datasets, facts.report.name)
        advice[str(item)] = replace(item, datasets=names)
    datasets = tuple(
        replace(item, advice=tuple(of_dataset.get(item.name, ()))) for item in report.datasets
    )
    report = replace(report, datasets=datasets, advice=tuple(advice.values()))
    if probe and opened is not None and report.call:
        report = with_prediction(report, probe_set(opened))
    elif probe:
        report = probe_datasets(name, report, "" if opening is None else opening.x)
    if html is not None:
        page = report_page(
            report,
            clips=_clips(opened, failure),
            maps=_maps(found.facts, "frame" if report.call else "sample"),
        )
        with open(html, "w", encoding="utf-8") as file:
            file.write(page)
    return report


def _opened(
    path: str, opening: Opening, read_ahead_bytes: int | None
) -> tuple[OpenedSet | None, Exception | None]:
    """Opens a file by its call; returns what the call would raise, if it fails."""
    try:
        arguments = {**opening.arguments(), "read_ahead_bytes": read_ahead_bytes}
        return OpenedSet(path, arguments), None
    except (H5VideoError, *HDF5_ERRORS) as error:
        return None, error


def _class_counts(opened: OpenedSet) -> tuple[tuple[str, int], ...]:
    """Counts the samples of each class of the labels that a call reads; () if they are none."""
    try:
        with opened.loader() as loader:
            return class_counts(loader._set, loader.sample_indices)
    except (H5VideoError, *HDF5_ERRORS):
        return ()


def _clips(opened: OpenedSet | None, failure: Exception | None) -> str:
    """Returns some samples as HTML; why not, if they cannot be shown."""
    if opened is not None:
        try:
            with opened.loader(batch_size=_CLIPS, seed=0) as loader:
                grid = show(loader, num_samples=_CLIPS, num_frames=_FRAMES)
                return grid.html(is_moving=False)
        except (H5VideoError, *HDF5_ERRORS) as error:
            failure = error
    why = "no dataset looks like samples or recordings" if failure is None else failure
    return f"<p>They cannot be shown: {escape(str(why))}</p>"


def _maps(facts: list[Facts], what: str) -> list[ChunkMap]:
    """Returns what to draw of the largest chunked datasets, one of those that are alike."""
    chunked = [item for item in facts if item.report.chunk_shape and len(item.report.shape) > 2]
    maps = []
    largest = {item.report.name: item for item in sorted(chunked, key=lambda i: -i.report.nbytes)}
    alike = families([item.report for item in largest.values()])
    for item in [largest[items[0].name] for _, items in alike][:_MAPS]:
        stored, chunk = item.access.stored, item.report.chunk_shape
        assert chunk is not None
        num_samples, in_row = stored.shape[0], -(-stored.shape[1] // chunk[1])
        rows = -(-num_samples // chunk[0])
        count = min(rows, _MAP_ROWS, _MAP_BOXES // in_row)
        if not rows or count < min(rows, 2):
            continue
        drawn = np.linspace(0, rows - 1, count).astype(np.int64)
        is_written: tuple[bool, ...] = (True,) * count
        if len(stored.offsets):
            offsets = stored.offsets.reshape(rows, -1)[drawn]
            is_written = tuple(bool((row >= 0).any()) for row in offsets)
        firsts = tuple((drawn * chunk[0]).tolist())
        size = (chunk[0], chunk[1])
        maps.append(
            ChunkMap(item.report.name, num_samples, stored.shape[1], size, firsts, is_written, what)
        )
    return maps
