"""`repack(dry_run=True)` of recordings: sizes near those of the file that the same call writes."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from picture_helpers import smooth
from repack_helpers import files_in

from h5video_data.errors import ArgumentError, DatasetNotFoundError, H5VideoError
from h5video_data.tools.cli import main
from h5video_data.tools.repack import repack
from h5video_data.tools.repacking import recording_estimates

SHAPE = (48, 64, 3)
FRAMES = np.stack([np.roll(smooth(48, 64), 2 * shift, 1) for shift in range(40)])
LENGTHS = (40, 7, 25, 1, 0, 33)


@pytest.fixture
def demos(tmp_path):
    with h5py.File(tmp_path / "demos.h5", "w") as file:
        for number, length in enumerate(LENGTHS):
            for name in ("front", "wrist"):
                file.create_dataset(
                    f"data/demo_{number}/obs/{name}",
                    data=FRAMES[:length],
                    chunks=(1, *SHAPE) if length else None,
                    compression="gzip" if length else None,
                )
            file[f"data/demo_{number}/actions"] = np.zeros((length, 100))
    return tmp_path / "demos.h5"


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / f"run_{number}.h5" for number in range(2)]
    for number, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            for i in range(30):
                file[f"frame_{i}_x"] = FRAMES[i]
                file[f"frame_{i}_y"] = np.float32([number, i])
            file["calibration"] = np.zeros(50_000)
    return paths


FRONT = "data/*/obs/front"


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "lzf"}, {"chunks": "sample"}, {"codec": "jpeg"}, {"codec": "png"}],
)
@pytest.mark.parametrize("x", [FRONT, [FRONT, "data/*/obs/wrist"]], ids=["one", "two"])
def test_recordings_take_what_was_estimated(demos, options, x):
    new = demos.with_name("new.h5")
    report = repack(demos, new, x=x, dry_run=True, **options)
    assert files_in(demos.parent) == ["demos.h5"]
    estimate, written = report.estimate, repack(demos, new, x=x, **options)
    assert report.num_samples == written.num_samples == (5 if x == FRONT else 10)
    assert estimate.nbytes == pytest.approx(new.stat().st_size, rel=0.1)
    assert estimate.old_nbytes == demos.stat().st_size
    assert 0 < estimate.seconds < 60
    assert (estimate.unit, estimate.samples_per_second > 0) == ("frames", True)
    assert estimate.old_samples_per_second > 0
    with h5py.File(new) as file:
        assert file["data/demo_4/obs/front"].shape == (0, *SHAPE)  # nothing to rewrite, and kept


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"codec": "jpeg"}])
def test_frames_take_what_was_estimated(pictures, options):
    new = pictures[0].with_name("new.h5")
    arguments = {"x": ["frame_*_x", "frame_*_y"], "layout": "recordings", **options}
    report = repack(pictures, new, dry_run=True, **arguments)
    assert files_in(new.parent) == ["run_0.h5", "run_1.h5"]
    estimate, written = report.estimate, repack(pictures, new, **arguments)
    assert report.num_samples == written.num_samples == 2
    assert estimate.nbytes == pytest.approx(new.stat().st_size, rel=0.1)
    assert estimate.old_nbytes == sum(path.stat().st_size for path in pictures)
    assert estimate.samples_per_second > 0
    assert estimate.old_samples_per_second is None


def test_some_frames_of_some_recordings_are_looked_at(demos, monkeypatch):
    monkeypatch.setattr(recording_estimates, "_MOST_RECORDINGS", 3)
    monkeypatch.setattr(recording_estimates, "SAMPLED_BYTES", 3 * 10 * FRAMES[0].nbytes)
    rows = []
    append_rows = recording_estimates.append_rows

    def append(file, video_set, samples, *rest):
        rows.append((video_set.components[0].name, len(samples)))
        append_rows(file, video_set, samples, *rest)

    monkeypatch.setattr(recording_estimates, "append_rows", append)
    estimate = repack(demos, demos.with_name("new.h5"), x=FRONT, dry_run=True).estimate
    assert rows == [(f"data/demo_{i}/obs/front", n) for i, n in ((0, 10), (2, 10), (5, 10))]
    rest = sum(800 * length for length in LENGTHS)
    with h5py.File(demos) as file:
        rest += sum(file[f"data/demo_{i}/obs/wrist"].id.get_storage_size() for i in range(6))
    assert estimate.nbytes == sum(LENGTHS) * FRAMES[0].nbytes + rest


def test_whole_chunks_of_many_frames_are_looked_at(demos, monkeypatch):
    with h5py.File(demos, "a") as file:
        file.create_dataset("many/a/x", data=FRAMES, chunks=(8, *SHAPE), compression="gzip")
    monkeypatch.setattr(recording_estimates, "SAMPLED_BYTES", 20 * FRAMES[0].nbytes)
    looked_at = []
    append_rows = recording_estimates.append_rows

    def append(file, video_set, samples, *rest):
        looked_at.append(len(samples))
        append_rows(file, video_set, samples, *rest)

    monkeypatch.setattr(recording_estimates, "append_rows", append)
    repack(demos, demos.with_name("new.h5"), x="many/*/x", dry_run=True)
    assert looked_at == [16]


def test_the_command_counts_frames(demos, pictures, capsys):
    new = str(demos.with_name("new.h5"))
    assert main(["repack", str(demos), new, "--x", FRONT, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert ": 5 recordings of data/*/obs/front, would take " in text
    assert " frames/s from the page cache (now " in text
    assert text.rstrip().endswith("; nothing was written")
    command = ["repack", *map(str, pictures), new, "--x", "frame_*_x", "--layout", "recordings"]
    assert main([*command, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["estimate"]["unit"] == "frames"
    assert found["estimate"]["old_samples_per_second"] is None
    assert files_in(demos.parent) == ["demos.h5", "run_0.h5", "run_1.h5"]


def test_a_call_that_would_fail_fails(demos):
    new = demos.with_name("new.h5")
    with pytest.raises(DatasetNotFoundError, match="no dataset"):
        repack(demos, new, x="data/*/obs/back", dry_run=True)
    with pytest.raises(ArgumentError, match="repacked whole, without `subset`"):
        repack(demos, new, x=FRONT, dry_run=True, shards=2)
    with pytest.raises(ArgumentError, match="is a recording already"):
        repack(demos, new, x=FRONT, layout="recordings", dry_run=True)
    with pytest.raises(ArgumentError, match="`out` exists"):
        repack(demos, demos, x=FRONT, dry_run=True)
    for options in ({"x": FRONT}, {"x": "data/*/actions", "layout": "recordings"}):
        with pytest.raises(ArgumentError, match="must not be a file that is read"):
            repack(demos, demos, dry_run=True, overwrite=True, **options)
    assert files_in(demos.parent) == ["demos.h5"]


def test_a_recording_that_is_a_dataset_of_nothing_is_an_error(demos):
    with h5py.File(demos, "a") as file:
        file["data/demo_6/obs/front"] = h5py.Empty("u1")
    with pytest.raises(H5VideoError, match="demo_6"):
        repack(demos, demos.with_name("new.h5"), x=FRONT)
    assert files_in(demos.parent) == ["demos.h5"]
