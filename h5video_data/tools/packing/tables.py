"""Tables of videos: CSV, TSV or Parquet files with a row for each video, or part of one."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path
from typing import Any

from h5video_data.errors import FileFormatError, MissingDependencyError, VideoFileNotFoundError

from .clip_rules import Span
from .sources import Part, SkippedVideo, Source, Sources, frame_folder, problem_of, readable, shown

SUFFIXES = (".csv", ".tsv", ".parquet")
COLUMNS = ("path", "label", "start", "end", "group", "split")

_Row = dict[str, str]


def is_table(path: Path) -> bool:
    """Whether a path is one of a table."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def read_table(table: Path, *, has_classes: bool, parts_are_videos: bool) -> Sources:
    """Reads a table of videos.

    Args:
        table: The file. Paths in it are relative to its folder.
        has_classes: Whether samples get labels, if the table has the column.
        parts_are_videos: Whether each part of a video is read by itself; otherwise a video is read
            once for all of its parts.

    Raises:
        FileFormatError: A column is missing or unknown, or a value is not valid.
    """
    if not table.exists():
        raise VideoFileNotFoundError(f"There is no table {table}.")
    rows, columns = _rows(table)
    unknown = [name for name in columns if name not in COLUMNS]
    if "path" not in columns or unknown:
        raise FileFormatError(
            f"{table}: the columns must be path and any of {', '.join(COLUMNS[1:])}. "
            f"Received: {shown(columns)}"
        )
    class_names = labels = None
    if has_classes and "label" in columns:
        class_names, labels = _classes(table, [row["label"] for row in rows])
    parts: dict[Any, list[Part]] = {}
    for number, row in enumerate(rows):
        if not row["path"]:
            raise FileFormatError(f"{table}, row {number + 1}: the path is empty.")
        key = (number, row["path"]) if parts_are_videos else row["path"]
        part = Part(
            None if labels is None else labels[number],
            _span(table, number, row),
            row.get("group", ""),
            row.get("split", ""),
        )
        parts.setdefault(key, []).append(part)
    videos, skipped = [], []
    for key, found in parts.items():
        name = key if isinstance(key, str) else key[1]
        path = table.parent / name
        frames = frame_folder(path) if path.is_dir() else None
        problem = "is a folder without numbered pictures" if frames == () else None
        if frames is None:
            problem = problem_of(path)
        if problem:
            skipped.append(SkippedVideo(readable(name), problem))
        else:
            videos.append(Source(readable(name), path, tuple(found), frames))
    extra = frozenset({"group", "split"} & set(columns))
    unique = tuple(dict.fromkeys(skipped))
    return Sources(tuple(videos), unique, class_names, extra)


def _rows(table: Path) -> tuple[list[_Row], list[str]]:
    if table.suffix.lower() == ".parquet":
        return _parquet_rows(table)
    # Names of files may be of any bytes.
    with open(table, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if table.suffix.lower() == ".tsv" else ",")
        lines = [line for line in reader if any(cell.strip() for cell in line)]
    columns = [cell.strip() for cell in lines[0]] if lines else []
    for number, line in enumerate(lines[1:], 1):
        if len(line) != len(columns):
            raise FileFormatError(
                f"{table}, row {number}: expected {len(columns)} values, one for each of "
                f"{', '.join(columns)}. Received: {shown(line)}"
            )
    stripped = [[cell.strip() for cell in line] for line in lines[1:]]
    return [dict(zip(columns, line, strict=True)) for line in stripped], columns


def _parquet_rows(table: Path) -> tuple[list[_Row], list[str]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingDependencyError(
            f"pyarrow reads Parquet files, and cannot be imported ({error}). "
            "Install it with: pip install pyarrow"
        ) from error
    try:
        read = parquet.ParquetFile(table).read()
    except pa.ArrowException as error:
        raise FileFormatError(f"{table} cannot be read as a Parquet file: {error}") from error
    # pandas stores the index of a DataFrame as a column.
    columns = [name for name in read.column_names if not name.startswith("__index_level_")]
    rows = read.select(columns).to_pylist()
    return [{name: _text(value) for name, value in row.items()} for row in rows], columns


def _text(value: Any) -> str:
    """Returns a value of a Parquet file as it would be in a CSV file."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():  # class numbers, with some missing
        return str(int(value))
    return (os.fsdecode(value) if isinstance(value, bytes) else str(value)).strip()


def _classes(table: Path, labels: list[str]) -> tuple[tuple[str, ...], list[int]]:
    """Returns the names of the classes, and the class of each row."""
    if missing := [str(number + 1) for number, label in enumerate(labels) if not label]:
        raise FileFormatError(
            f"{table}: every row must have a label, or none may. Without: row {shown(missing)}."
        )
    if all(label.isascii() and label.isdecimal() for label in labels):
        numbers = [int(label) for label in labels]
        if max(numbers, default=0) >= 1_000_000:
            raise FileFormatError(
                f"{table}: labels that are numbers are classes from 0 on. Received: {max(numbers)}"
            )
        return tuple(map(str, range(max(numbers, default=-1) + 1))), numbers
    names = sorted(set(labels))
    places = {name: number for number, name in enumerate(names)}
    return tuple(map(readable, names)), [places[label] for label in labels]


def _span(table: Path, number: int, row: _Row) -> Span:
    found = {}
    for column, field in (("start", "start"), ("end", "stop")):
        if text := row.get(column, ""):
            try:
                found[field] = float(text)
            except ValueError:
                found[field] = math.nan
            if not found[field] >= 0:
                raise FileFormatError(
                    f"{table}, row {number + 1}: {column} must be seconds, 0 or more. "
                    f"Received: {column}={text!r}"
                )
    span = Span(**found)
    if span.start >= span.stop:
        raise FileFormatError(
            f"{table}, row {number + 1}: start must be before end. "
            f"Received: start={span.start}, end={span.stop}"
        )
    return span
