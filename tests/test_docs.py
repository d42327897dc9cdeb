"""The code in the README and in docs/ runs as it stands there."""

import os
import re
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from h5video_data.testing import write_video_file

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
        "docs/from-a-plain-generator.md",
        "docs/map-functions.md",
        "docs/samples-and-labels.md",
        "docs/training.md",
    ]


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
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page, "model": small_model()}
    for number, block in enumerate(code_blocks(page)):
        # TensorFlow's AutoGraph looks the source of map functions up in their file.
        file = tmp_path / f"block_{number}.py"
        file.write_text(block)
        exec(compile(block, os.fspath(file), "exec"), names)


def test_links_lead_somewhere():
    for page in [*PAGES, "CONTRIBUTING.md"]:
        text = (ROOT / page).read_text()
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if not target.startswith("http"):
                assert (ROOT / page).parent.joinpath(target).exists(), (page, target)
