"""The benchmark of encoded pictures, on a few small ones."""

import re

import h5py
import pytest

from benchmarks import measure, pictures, rivals
from h5video_data import VideoLoader
from h5video_data.storage.pictures.codecs import read_header


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(pictures, "FRAME", (32, 24, 3))
    monkeypatch.setattr(measure, "DRAINED_SECONDS", 0.05)
    monkeypatch.setattr(pictures, "BATCH_SIZE", 4)


@pytest.mark.tf
def test_every_layout_is_measured_and_checked(capsys):
    arguments = ["--pictures", "9", "--rounds", "1", "--workers", "1"]
    assert pictures.main([*arguments, "--layouts", *pictures.LAYOUTS]) == 0
    text = capsys.readouterr().out
    for layout in pictures.LAYOUTS:
        assert re.search(rf"^{layout}: \d+ MB, 9 pictures of \d+ bytes", text, re.MULTILINE)
    for name in ("limit", "h5video_data", "tfrecord"):
        assert len(re.findall(rf"^  {name} +[\d,]+ ±", text, re.MULTILINE)) == 2
    assert text.count("  lance, ") == 2 * rivals.has_lance()


def test_a_picture_of_another_row_is_noticed(tmp_path):
    made = pictures.make_pictures(9)
    assert read_header(made[0]).shape == pictures.FRAME
    path = pictures.make_file(tmp_path, "jpeg", made)
    with h5py.File(path, "r+") as file:
        file["frames"][...] = file["frames"][:][::-1]
    message = r"picture \d is not that of the file"
    with (
        VideoLoader(path, x="frames", y=None, batch_size=9) as loader,
        pytest.raises(ValueError, match=message),
    ):
        pictures.check(loader, made)
