from __future__ import annotations

import math
import sys

import pytest
from pack_helpers import contents, numbered, numbers, reasons, write_video

from h5video_data.errors import FileFormatError, MissingDependencyError
from h5video_data.tools.pack import pack
from h5video_data.tools.packing.tables import read_table


@pytest.fixture
def folder(tmp_path):
    write_video(tmp_path / "here/v.mkv", numbered(30))
    write_video(tmp_path / "here/w.mkv", numbered(10))
    return tmp_path


def write_parquet(path, columns):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), path)
    return path


COLUMNS = {
    "path": ["here/v.mkv", "here/w.mkv", "here/none.mkv", " here/v.mkv "],
    "label": ["run", "walk", "walk", "walk"],
    "start": [0.4, None, math.nan, 0.0],
    "end": [0.8, None, None, 0.4],
    "group": ["p1", "p2", "p2", "p1"],
    "split": ["train", "validation", "validation", "train"],
}


def test_a_parquet_table(folder):
    table = write_parquet(folder / "list.parquet", COLUMNS)
    report = pack(table, folder / "out.h5", num_frames=10)
    data, attributes = contents(folder / "out.h5")
    assert numbers(data["X"]) == [list(range(10)), list(range(10, 20)), list(range(10))]
    assert data["Y"].argmax(axis=1).tolist() == [1, 0, 1]
    assert attributes["class_names"] == ["run", "walk"]
    assert data["group"].tolist() == [b"p1", b"p1", b"p2"]
    assert data["split"].tolist() == [b"train", b"train", b"validation"]
    assert reasons(report) == {"here/none.mkv": "cannot be opened: No such file or directory"}


LABELS = {
    "whole numbers": [2, 0, 1, 2],
    "numbers that had gaps": [2.0, 0.0, 1.0, 2.0],  # as pandas keeps them
    "text": ["2", "0", "1", "2"],
    "bytes": [b"2", b"0", b"1", b"2"],
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_class_numbers_of_a_parquet_table(folder, labels):
    table = write_parquet(folder / "list.parquet", {"path": COLUMNS["path"], "label": labels})
    report = pack(table, folder / "out.h5", num_frames=5, labels="numbers")
    assert report.class_names == ("0", "1", "2")
    found = contents(folder / "out.h5")[0]
    assert dict(zip(found["source"].tolist(), found["Y"].tolist(), strict=True)) == {
        b"here/v.mkv": 2,
        b"here/w.mkv": 0,
    }


def test_the_index_of_a_dataframe_is_no_column_of_a_table(folder):
    columns = {"path": COLUMNS["path"][:2], "__index_level_0__": [4, 7]}
    table = write_parquet(folder / "list.parquet", columns)
    sources = read_table(table, has_classes=True, parts_are_videos=False)
    assert [source.name for source in sources.videos] == ["here/v.mkv", "here/w.mkv"]


def test_wrong_parquet_tables(folder):
    table = write_parquet(folder / "list.parquet", {"file": ["here/v.mkv"]})
    with pytest.raises(FileFormatError, match=r"list.parquet: the columns must be path.*: file$"):
        pack(table, folder / "out.h5")
    write_parquet(table, {"path": ["here/v.mkv", None]})
    with pytest.raises(FileFormatError, match=r"list.parquet, row 2: the path is empty"):
        pack(table, folder / "out.h5")
    write_parquet(table, {"path": ["here/v.mkv"] * 2, "label": [1.0, None]})
    with pytest.raises(FileFormatError, match=r"or none may\. Without: row 2"):
        pack(table, folder / "out.h5")
    table.write_bytes(b"path,label\n")
    with pytest.raises(FileFormatError, match=r"list.parquet cannot be read as a Parquet file: "):
        pack(table, folder / "out.h5")


def test_parquet_without_pyarrow(folder, monkeypatch):
    (folder / "list.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"pip install pyarrow"):
        pack(folder / "list.parquet", folder / "out.h5")
