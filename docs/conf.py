"""The site: `pip install -e '.[docs]' && python -m sphinx -W docs site`."""

import os
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

import h5video_data

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "h5video_data"
author = "h5video_data maintainers"
copyright = author  # noqa: A001 - Sphinx's name
release = version = h5video_data.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "command_line",
]
exclude_patterns = ["_ext", "**/.ipynb_checkpoints", "jupyter_execute"]
suppress_warnings = ["misc.highlighting_failure"]  # command lines with a `*` or quotes

# Pages are Markdown as forges show it: links to headings and to files.
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# Docstrings are Google's, with Markdown's single backticks. Their arguments have no types: the
# docstrings say them.
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

# A notebook that fails fails the build. Whatever writes to stderr is left out: TensorFlow does.
nb_execution_mode = "force"
nb_execution_timeout = 120
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_output_stderr = "remove"
nb_merge_streams = True
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

html_theme = "furo"
html_title = f"h5video_data {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"


def _as_rest(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Marks as reST what docstrings have in Markdown's form: indented code, tables, asterisks."""
    rest: list[str] = []
    is_code, base, before = False, 0, ""
    for line in lines:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if text and is_code and indent <= base:
            is_code = False
        starts = not before.strip() or before.strip() == "Example:"
        if text and rest and not is_code and indent > base and starts:
            is_code = True
            rest += [*[""] * bool(before.strip()), f"{'':{base}}.. code-block:: python", ""]
        if is_code or not text:
            rest.append(line)
        elif text.startswith("|"):
            rest += _table_row(text, is_first=not before.strip().startswith("|"))
        else:
            base = indent
            rest.append(re.sub(r"(`[^`]*`)|\*", lambda found: found[1] or r"\*", line))
        before = line
    lines[:] = rest


def _table_row(line: str, *, is_first: bool) -> list[str]:
    """Returns a row of a table of Markdown as one of a list-table of reST."""
    if set(line) <= set("|- "):
        return []
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    head = [".. list-table::", "   :header-rows: 1", ""] if is_first else []
    return [*head, *[f"   {'  ' if i else '* '}- {cell}" for i, cell in enumerate(cells)]]


# Pages outside of docs/ that are pages of the site as well.
OUTSIDE = {"../CONTRIBUTING.md": "contributing.md", "../CHANGELOG.md": "changelog.md"}


def _stay_inside(app: Sphinx, name: str, source: list[str]) -> None:
    """Has links to what is outside of docs/ lead to pages of the site."""
    for old, new in OUTSIDE.items():
        source[0] = source[0].replace(f"]({old}", f"]({new}")


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", _as_rest, priority=100)
    app.connect("source-read", _stay_inside)
