"""What a release is made of: the version, figures on the first pages, notebooks, workflows."""

import json
import re
from pathlib import Path

import pytest

import h5video_data

ROOT = Path(__file__).parent.parent
NUMBERS = re.compile(r"\d[\d,]*(?:\.\d+)?")


def rows(page: str, heading: str = "# ") -> list[list[str]]:
    """Returns the cells of all tables of a page, from a heading on."""
    text = (ROOT / page).read_text().partition(heading)[2]
    lines = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def by_name(page: str, num_columns: int, heading: str = "# ") -> dict[str, list[str]]:
    """Returns the rows of tables with so many columns by their first cell; the first of a name."""
    found: dict[str, list[str]] = {}
    for row in rows(page, heading):
        if len(row) == num_columns:
            found.setdefault(row[0].strip("`"), row)
    return found


def test_the_version_stands_in_one_place():
    assert "version = attr: h5video_data.__version__" in (ROOT / "setup.cfg").read_text()
    for name in ("README.md", "CITATION.cff", "pyproject.toml", "docs/conf.py"):
        assert f'"{h5video_data.__version__}"' not in (ROOT / name).read_text()
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## ([\d.]+)", changes, re.MULTILINE)[1] == h5video_data.__version__


def test_the_picture_of_speeds_has_the_figures_of_performance():
    """And the README's sentences beside it."""
    table = by_name("docs/performance.md", 6)
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", (ROOT / "docs/speed.svg").read_text())
    readme = (ROOT / "README.md").read_text()
    names = {"the same, gzip": "the same, gzip 4", "the same, lzf": "lzf"}
    for kind in ("contiguous", "one sample a chunk", "the same, gzip", "the same, lzf"):
        _, limit, ours, plain, of_limit, times = table[names.get(kind, kind)]
        i = shown.index(kind)
        assert shown[i + 1] == f"h5video_data {ours.split(' ')[0]} MB/s"
        assert shown[i + 2] == f"plain generator {plain.split(' ')[0]} MB/s"
        assert shown[i + 3] == of_limit
        share = number(plain) / number(limit)
        assert float(shown[i + 4]) == pytest.approx(share, abs=0.006)
        assert times in NUMBERS.findall(readme.partition("## How much faster?")[2])


def number(cell: str) -> float:
    return float(NUMBERS.search(cell)[0].replace(",", ""))


def test_the_headlines_are_those_of_the_benchmarks():
    """The README says: how many times as fast as which other feed."""
    table = by_name("docs/benchmarks.md", 7)
    ours, tfio, plain = table["h5video_data"], table["tfio"], table["plain"]
    others = {
        name: row for name, row in table.items() if name in ("read_direct", "torch", "zea", "grain")
    }
    readme = " ".join((ROOT / "README.md").read_text().split())
    times = number(ours[1]) / number(tfio[1])
    assert f"this package is {times:.1f} times as fast as that" in readme
    times = number(ours[1]) / max(number(row[1]) for row in others.values())
    assert f"{times:.1f} times as the next one on current TensorFlow" in readme
    times = number(ours[5]) / max(number(row[5]) for row in others.values())
    assert f"with gzip, {times:.1f} times as the next one that reads the HDF5 file" in readme
    # "several times", "tens of times", "hundreds of times": contiguous, compressed, chunks.
    several, hundreds, tens = (number(ours[i]) / number(plain[i]) for i in (1, 3, 5))
    assert 3 < several < 10 < tens < 100 < hundreds < 1000


def test_the_comparison_has_the_figures_of_the_benchmarks():
    table = by_name("docs/benchmarks.md", 7)
    names = {
        "h5video_data": "h5video_data",
        "a generator with h5py": "plain",
        "`keras.utils.PyDataset`, h5py": "pydataset",
        "TFRecord, a copy": "tfrecord",
        "tensorflow-io": "tfio",
        "PyTorch `DataLoader`, h5py": "torch",
        "Grain, h5py": "grain",
        "TensorStore, a zarr copy": "tensorstore",
        "zea": "zea",
    }
    shown = {row[0]: row[1:] for row in rows("docs/comparison.md") if len(row) == 4}
    assert {*names} < {*shown}
    for name, contender in names.items():
        figures = [cell.split(" ")[0] for cell in table[contender][1::2]]
        assert shown[name] == figures
    pictures = by_name("docs/benchmarks.md", 3, "## Encoded pictures")
    names = ("Lance", "h5video_data", "TFRecord, `tf.io.decode_jpeg")
    lance, ours, tfrecord = (pictures[name][1].split(" ")[0] for name in names)
    assert (
        f"Lance gave {lance} MB/s of pixels where this package gave {ours} and "
        f"TFRecord with `tf.io.decode_jpeg` {tfrecord}"
    ) in " ".join((ROOT / "docs/comparison.md").read_text().split())


def test_the_reference_has_all_public_names():
    listed = re.findall(
        r"auto(?:function|class|module):: (?:h5video_data\.)?(\w+)",
        (ROOT / "docs/api.md").read_text(),
    )
    inside = {"H5VideoError", "channel_statistics"}  # of `errors` and `transforms`
    assert {*h5video_data.__all__} - inside <= {*listed}


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/notebooks/*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_have_no_outputs(path):
    for cell in json.loads(path.read_text())["cells"]:
        assert not cell.get("outputs"), "jupyter nbconvert --clear-output --inplace"
        assert cell.get("execution_count") is None


def test_workflows_call_scripts_that_exist():
    called = {
        name
        for path in ROOT.glob(".github/workflows/*.yml")
        for name in re.findall(r"\.ci/(\w+)", path.read_text())
    }
    assert "run" in called
    for name in called:
        assert (ROOT / ".ci" / name).stat().st_mode & 0o111, name
