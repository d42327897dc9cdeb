from __future__ import annotations

import errno
import os

import h5py
import numpy as np
import pytest
from decoding_helpers import before_each_chunk
from picture_helpers import save
from PIL import Image
from repack_helpers import GZIP, files_in, noise

from h5video_data.errors import RepackingError
from h5video_data.testing import SAMPLE_SHAPE
from h5video_data.tools.cli import main
from h5video_data.tools.inspecting.probe import Prediction
from h5video_data.tools.repack import repack
from h5video_data.tools.repacking import estimates


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(
            "X", data=noise((400, *SAMPLE_SHAPE)), chunks=(20, *SAMPLE_SHAPE), **GZIP
        )
    return tmp_path / "a.h5"


def test_each_chunk_of_many_samples_is_decoded_once(path, monkeypatch):
    decoded, probed = [], []
    before_each_chunk(monkeypatch, lambda: decoded.append(1))
    monkeypatch.setattr(
        estimates, "probe_loader", lambda *_: probed.append(len(decoded)) or Prediction(100.0, None)
    )
    monkeypatch.setattr(estimates, "SAMPLED_BYTES", 5 * 20 * 768)
    estimate = repack(path, path.with_name("b.h5"), dry_run=True).estimate
    assert probed == [5, 5]  # before either: five chunks, of 20 samples each
    assert estimate.nbytes == 400 * 768
    assert (estimate.samples_per_second, estimate.old_samples_per_second) == (100.0, 100.0)
    assert files_in(path.parent) == ["a.h5"]


def test_time_grows_with_the_samples_not_with_what_is_opened():
    # A first batch that took 10 s, as files are opened and threads start; then 0.5 s each.
    assert estimates._seconds([(10.0, 20), (10.5, 20), (11.0, 20)]) == pytest.approx(1 / 40)
    assert estimates._seconds([(10.0, 20)]) == 0.5


@pytest.mark.parametrize(
    ("count", "run", "expected"),
    [(7, 1, [0, 7]), (400, 20, [0, 400]), (100_000, 20, [0, 100_000])],
)
def test_samples_that_are_looked_at(monkeypatch, count, run, expected):
    class Set:
        num_samples = count
        components = ()

    class Item:
        row_nbytes = 1 << 15

    Set.components = (Item,)
    monkeypatch.setattr(estimates, "SAMPLED_BYTES", 64 << 20)
    monkeypatch.setattr(estimates, "rows_per_chunk", lambda _: run)
    found = estimates.some_samples(Set)
    assert len(np.unique(found)) == len(found)
    assert len(found) * Item.row_nbytes <= estimates.SAMPLED_BYTES
    assert (found[0], found[-1] < expected[1]) == (expected[0], True)
    assert len(found) == min(count, (2048 // (16 * run)) * 16 * run) if count > 2048 else count
    starts = np.flatnonzero(np.diff(found, prepend=-2) > 1)
    assert (found[starts] % run == 0).all()


def test_the_speed_that_is_expected(path, capsys):
    arguments = ["repack", str(path), str(path.with_name("b.h5")), "--dry-run"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "and would be read at about " in printed
    assert " samples/s from the page cache (now " in printed  # it was just written
    estimate = repack(path, path.with_name("b.h5"), dry_run=True).estimate
    # Chunks of 20 samples are decoded for one of them each.
    assert estimate.samples_per_second > estimate.old_samples_per_second


def test_rows_of_bytes_that_stay_as_they_are(tmp_path, caplog):
    image = Image.fromarray(np.zeros((16, 24, 3), np.uint8))
    row = np.frombuffer(save(image), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.tile(np.append(row, [0, 0]), (9, 1)).astype(np.uint8)
    assert repack(tmp_path / "a.h5", tmp_path / "b.h5", dry_run=True).estimate.nbytes > 9 * len(row)
    assert not caplog.messages
    found = repack(tmp_path / "a.h5", tmp_path / "b.h5", dry_run=True, decode="image").estimate
    assert found.nbytes == 9 * 16 * 24 * 3


def test_all_else_that_is_copied_counts(path, tmp_path):
    with h5py.File(path, "a") as file:
        file["other"] = np.zeros(100_000, np.uint8)
        file["of each sample"] = np.zeros((400, 100), np.uint8)
    new = tmp_path / "b.h5"
    assert repack(path, new, dry_run=True).estimate.nbytes == 400 * 768 + 140_000
    assert repack(path, new, dry_run=True, indices=range(200)).estimate.nbytes == 200 * 768 + 70_000
    whole = repack(path, new)
    assert new.stat().st_size == pytest.approx(400 * 768 + 140_000, rel=0.05)
    assert whole.num_samples == 400


def test_a_folder_that_takes_no_file_is_an_error(path, monkeypatch):
    def mkdir(*_):
        raise PermissionError(errno.EACCES, "")

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(RepackingError, match=r"b\.h5 could not be written.*Permission denied"):
        repack(path, path.with_name("b.h5"), dry_run=True)
