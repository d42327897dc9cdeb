"""The benchmark of windows of recordings, on a few of them."""

import re

import h5py
import numpy as np
import pytest

from benchmarks import episodes, measure, rivals


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(episodes, "FRAME", (16, 16, 3))
    monkeypatch.setattr(episodes, "LENGTHS", (30, 40))
    monkeypatch.setattr(measure, "DRAINED_SECONDS", 0.05)
    layouts = {
        name: {**options, "chunks": (options["chunks"][0], 16, 16, 3)} if options else {}
        for name, options in episodes.LAYOUTS.items()
    }
    monkeypatch.setattr(episodes, "LAYOUTS", layouts)


@pytest.mark.tf
def test_every_layout_is_measured_and_checked(capsys):
    arguments = ["--episodes", "6", "--rounds", "1", "--layouts", *episodes.LAYOUTS]
    assert episodes.main([*arguments, "--workers", "1"]) == 0
    text = capsys.readouterr().out
    for layout in episodes.LAYOUTS:
        assert f"{layout}: " in text
    speeds = re.findall(r"h5video_data +([\d,]+) ±", text)
    assert len(speeds) == len(episodes.LAYOUTS)
    assert text.count("limit") == len(episodes.LAYOUTS) - 1
    assert "decodes a chunk an epoch, at hop 1: 1.00" in text
    assert text.count("  lance, ") == len(episodes.LAYOUTS) * rivals.has_lance()


def test_turns_without_the_page_cache_begin_by_dropping_it(tmp_path, monkeypatch):
    dropped = []
    monkeypatch.setattr(episodes, "drop_cache", dropped.extend)
    files = [tmp_path / "a", tmp_path / "b"]
    turn = episodes.cold(lambda: float(len(dropped)), files)
    assert turn() == 2
    assert dropped == files


def test_windows_of_lance_are_those_of_the_file(tmp_path):
    pytest.importorskip("lance")
    path = episodes.make_episodes(tmp_path, "contiguous", 3)
    windows = episodes.lance_windows(path, tmp_path)
    starts = episodes.window_starts(path)
    assert len(windows) == len(starts)
    with h5py.File(path) as file:
        frames = file["pixels"][starts[7] : starts[7] + episodes.SPAN : episodes.STRIDE]
    # JPEG changes gradients little, and wraps of them more.
    far = np.abs(windows.__getitems__([7])[0].astype(int) - frames) > 8
    assert far.mean() < 0.2
    rivals.check_lance(windows, 7, list(map(episodes.encode_picture, frames)))
    with pytest.raises(ValueError, match="sample 8 of the Lance dataset is not that of the file"):
        rivals.check_lance(windows, 8, list(map(episodes.encode_picture, frames)))


def test_windows_never_cross_episodes(tmp_path):
    path = episodes.make_episodes(tmp_path, "contiguous", 3)
    starts = episodes.window_starts(path)
    with h5py.File(path) as file:
        ends = np.append(file["ep_offset"][1:], len(file["pixels"]))
        lengths = file["ep_len"][:]
    assert len(starts) == (lengths - episodes.SPAN + 1).sum()
    assert set(ends - episodes.SPAN) <= set(starts.tolist())
    assert not set(starts.tolist()) & set((ends - 1).tolist())


def test_a_wrong_window_is_found(tmp_path, monkeypatch):
    path = episodes.make_episodes(tmp_path, "contiguous", 3)
    windows = episodes.h5v.Windows(4, stride=5, bounds="ep_offset")
    with episodes.h5v.VideoLoader(path, x="pixels", y=None, windows=windows) as loader:
        episodes.check(path, loader)
        starts = episodes.window_starts(path)
        monkeypatch.setattr(episodes, "window_starts", lambda _: starts + 1)
        with pytest.raises(ValueError, match="is not that of the file"):
            episodes.check(path, loader)
