"""The code in the README and in docs/ runs as it stands there."""

import os
import re
import shlex
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pack_helpers
import pytest
from picture_rows_helpers import PICTURE_SCHEMAS, as_opaque, as_variable, jpeg
from schema_helpers import SCHEMAS

from h5video_data.testing import recording_values, write_recordings, write_video_file
from h5video_data.tools.cli import _parser

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/*.md"))]
SAMPLE_SHAPE = (8, 3, 112, 112)


def code_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def small_model() -> keras.Model:
    model = keras.Sequential(
        [
            keras.layers.Input(SAMPLE_SHAPE, dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.GlobalAveragePooling3D(),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )
    model.compile("sgd", "categorical_crossentropy")
    return model


def test_the_pages_with_code_are_known():
    assert [page for page in PAGES if code_blocks(page)] == [
        "README.md",
        "docs/distribution.md",
        "docs/files.md",
        "docs/from-a-plain-generator.md",
        "docs/map-functions.md",
        "docs/pictures.md",
        "docs/recordings.md",
        "docs/remote.md",
        "docs/samples-and-labels.md",
        "docs/training.md",
    ]


def write_films(folder: Path) -> None:
    """Writes what docs/files.md packs and repacks: videos of four classes, a dataset a frame."""
    for kind in ("archery", "bowling", "diving", "fencing"):
        for i in range(1, 3):
            pack_helpers.write_video(
                folder / "films" / kind / f"{i}.avi", pack_helpers.numbered(20 + i)
            )
    with h5py.File(folder / "frames.h5", "w") as file:
        for recording in range(3):
            for i in range(6 + recording):
                file[f"{recording}/{i}"] = recording_values(recording, i, (12, 12, 3))


def write_recorded(folder: Path, page: str) -> None:
    """Writes what a page with recordings reads: files of public projects, classes of video."""
    shown = "".join(code_blocks(page))
    for name, write in {**SCHEMAS, **PICTURE_SCHEMAS}.items():
        if f'"{name}/' in shown:
            (folder / name).mkdir()
            write(folder / name)
    for layout, name in {"files": "episodes", "groups": "demo.hdf5", "flat": "flat.h5"}.items():
        if f'"{name}' in shown:
            write_recordings(folder / name, [20, 31, 17, 40], layout=layout)
    if '"films"' in shown:
        write_films(folder)
    if '"speeds.h5' in shown:
        with h5py.File(folder / "speeds.h5", "w") as file:
            file["class"] = [b"slow", b"fast"] * 6
    for i in range(8 * ("videos/*/*.h5" in shown)):
        path = folder / "videos" / ("run", "walk")[i % 2] / f"{i}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["video"] = recording_values(i, range(20 + i), (12, 12, 3))


def write_pictures(folder: Path) -> None:
    """Writes what docs/pictures.md reads, beside files of public projects."""
    rows = [jpeg(i) for i in range(12)]
    for name, write in {"views.h5": as_variable, "opaque.h5": as_opaque}.items():
        with h5py.File(folder / name, "w") as file:
            write(file, "image", rows)
            file["label"] = np.arange(12) % 4
    (folder / "frames").mkdir()
    for i, data in enumerate(rows):
        (folder / "frames" / f"{i:03}.jpg").write_bytes(data)


# What `train` is after each block of a page: the shapes of x, y, ... without the batch.
SHAPES = {
    "docs/files.md": [
        "(8, 3, 112, 112), (4,)",
        "(8, 3, 112, 112), ()",
        "(8, 3, 112, 112), ()",
        "(8, 3, 112, 112), ()",
        "(8, 3, 112, 112), ()",
        "(8, 56, 56, 3), (4,)",
        "(4, 12, 12, 3)",
    ],
    "docs/recordings.md": [
        "(16, 12, 16, 3), (14,)",
        "(16, 16, 16, 3), (7,)",
        "(16, 14, 14, 3), (2,)",
        "{high: (4, 12, 16, 3), left: (1, 12, 16, 3), state: (14,)}, (8, 14)",
        "{image: (2, 12, 16, 3), qpos: (14,)}, (10, 14), (10,)",
        "(10, 10, 10), (10, 10, 10)",
        "(8, 12, 12, 3), ()",
        "(4, 16, 16, 3), ()",
        "(4, 16, 16, 3), ()",
        "(4, 16, 16, 3), ()",
        "(16, 12, 12, 3), (7,)",
        "(18, 14, 14, 3), ()",
        "{front: (2, 12, 12, 3), hand: (2, 12, 12, 3), position: (2, 3)}, (8, 7)",
        "{pixels: (3, 14, 14, 3), action: (15, 2)}",
        "(16, 12, 12, 3)",
        "(30, 12, 16), (12, 16)",
        "{frames: (8, 10, 10), mask: (8, 10, 10), angle: (8,)}",
        "(30, 12, 16)",
        "(8, 14, 10)",
        "{high: (2, 24, 32, 3)}, (10, 14)",
        "(12, 12, 13), (12, 12, 12)",
        "{density: (4, 12, 16)}, {density: (12, 16)}",
        "(8, 3, 12, 12), ()",
    ],
    "docs/remote.md": ["(8, 3, 112, 112), (4,)"] * 3,
    "docs/pictures.md": [
        "(24, 32, 3), ()",
        "(96, 128, 1), ()",
        "(16, 112, 112, 3), ()",
        "(4, 24, 32, 3)",
        "(1, 24, 32, 1), ()",
        "(1, 24, 32, 1), ()",
        "{head: (2, 24, 32, 3), left: (1, 24, 32, 3)}, (8, 14)",
        "{high: (2, 24, 32, 3), left: (24, 32, 3), state: (14,), is_pad: (16,)}, (16, 14)",
        "{high: (1, 24, 32, 3), low: (1, 24, 32, 3)}, (10, 14)",
        "(24, 32, 3), ()",
        "(4, 24, 32, 3)",
        "(24, 32, 3), ()",
    ],
}


def shown_shapes(spec: Any) -> str:
    if isinstance(spec, dict):
        return f"{{{', '.join(f'{key}: {shown_shapes(item)}' for key, item in spec.items())}}}"
    if isinstance(spec, tuple):
        return ", ".join(map(shown_shapes, spec))
    return str(tuple(spec.shape[1:]))


# Of the plain generator, as it is commonly written.
@pytest.mark.filterwarnings("ignore:.shuffle=True. was passed.*provided as a generator")
@pytest.mark.parametrize("page", [page for page in PAGES if code_blocks(page)])
def test_code_runs(page, tmp_path, monkeypatch):
    for name in ("video_data.h5", "more_video_data.h5"):
        path = write_video_file(tmp_path / name, num_samples=20, sample_shape=SAMPLE_SHAPE)
        with h5py.File(path, "a") as file:
            file["class"] = np.arange(20) % 4
            file["audio"] = np.zeros((20, 50), np.float32)
            file["masks"] = np.zeros((20, *SAMPLE_SHAPE[:1], 1, *SAMPLE_SHAPE[2:]), np.uint8)
            file["weight"] = np.ones(20, np.float32)
            file["subject"] = np.arange(20) % 5
            file["action"] = np.array([b"walk", b"run"] * 10)
            file["num_frames"] = np.full(20, SAMPLE_SHAPE[0])
    with h5py.File(tmp_path / "labels.h5", "w") as file:
        file["class"] = np.arange(20) % 4
    write_recorded(tmp_path, page)
    write_pictures(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": page, "model": small_model()}
    shapes = []
    for number, block in enumerate(code_blocks(page)):
        # TensorFlow's AutoGraph looks the source of map functions up in their file.
        file = tmp_path / f"block_{number}.py"
        file.write_text(block)
        exec(compile(block, os.fspath(file), "exec"), names)
        if page in SHAPES and "train" in names:
            shapes.append(shown_shapes(names["train"].element_spec))
    assert shapes == SHAPES.get(page, [])


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_known(page):
    for line in re.findall(r"^    h5video-data (.*)$", (ROOT / page).read_text(), re.MULTILINE):
        _parser().parse_args(shlex.split(line))  # SystemExit: it is not


def anchors(page: Path) -> set[str]:
    """Returns the anchors that a forge makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere():
    for page in [*PAGES, "CONTRIBUTING.md"]:
        path = ROOT / page
        for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", path.read_text()):
            if not target.startswith("http"):
                found = path.parent / target if target else path
                assert found.exists(), (page, target)
                assert not anchor or anchor in anchors(found), (page, target, anchor)
