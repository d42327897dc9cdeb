"""The code in the README and in docs/ runs as it stands there, in an empty folder."""

import os
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest

from h5video_data.tools.cli import _parser, main

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/*.md"))]

# Python, and commands that a shell would run: each alone on a line that is indented by four.
BLOCKS = re.compile(
    r"^```python\n(?P<python>.*?)^```|^    (?P<command>(?:h5video-data|python tests/)\S? ?.*?)$",
    re.DOTALL | re.MULTILINE,
)
PLACEHOLDER = re.compile(r"\b(?:[A-Z]{3,}|demo)\b")  # FILE, VIDEOS/; what takes minutes


def blocks(page: str) -> list[tuple[str, str]]:
    """Returns the code of a page in order: ("python" or "command", text)."""
    found = BLOCKS.finditer((ROOT / page).read_text())
    return [(str(block.lastgroup), block[str(block.lastgroup)]) for block in found]


def run_command(line: str) -> None:
    """Runs `h5video-data ...` or `python tests/...` as a shell would, in this process."""
    words = shlex.split(line, comments=True)
    if words[0] == "python":
        runpy.run_path(os.fspath(ROOT / words[1]), run_name="__main__")
    elif PLACEHOLDER.search(line):
        _parser().parse_args(words[1:])  # SystemExit: there is no such command
    else:
        assert main(words[1:]) == 0, line


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
        "(5, 12, 16)",
        "(8, 3, 12, 12), ()",
        "(16, 16, 16, 3), (7,)",
    ],
    "docs/remote.md": ["(8, 3, 112, 112), (4,)"] * 4,
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
@pytest.mark.tf
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.shuffle=True. was passed.*provided as a generator")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["write_public_formats.py"])
    names: dict[str, Any] = {"__name__": page}
    shapes = []
    for number, (kind, text) in enumerate(blocks(page)):
        if kind == "command":
            run_command(text)
            continue
        # TensorFlow's AutoGraph looks the source of map functions up in their file.
        file = tmp_path / f"block_{number}.py"
        file.write_text(text)
        exec(compile(text, os.fspath(file), "exec"), names)
        if page in SHAPES and "train" in names:
            shapes.append(shown_shapes(names["train"].element_spec))
    assert shapes == SHAPES.get(page, [])


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
