"""The report of `inspect` as HTML: one page that needs no network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, NamedTuple

from h5video_data.summary import counted

from .text import (
    PATHS,
    amplification_text,
    common_shape,
    families,
    rate_text,
    size_text,
    storage_text,
)

_SHOWN = 40  # rows of a table

_STYLE = """
.h5v{--ink:#1c1e21;--soft:#5a626b;--line:#d4d9de;--paper:#fff;--card:#f5f7f9;
--bar:#2f6fab;--bad:#a3122a;--good:#226b35;--warn:#7a5200;
color:var(--ink);font:15px/1.5 system-ui,sans-serif}
.h5v *{box-sizing:border-box}.h5v h1{font-size:22px;margin:0 0 4px;overflow-wrap:anywhere}
.h5v h2{font-size:17px;margin:28px 0 8px}.h5v p{margin:4px 0}.h5v .soft{color:var(--soft)}
.h5v pre,.h5v code{font:13px/1.45 ui-monospace,monospace}
.h5v pre{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:8px 10px;
margin:6px 0;white-space:pre-wrap;overflow-wrap:anywhere}
.h5v .scroll{overflow-x:auto}.h5v table{border-collapse:collapse;width:100%}
.h5v th,.h5v td{text-align:left;vertical-align:top;padding:5px 14px 5px 0;
border-bottom:1px solid var(--line)}
.h5v th{color:var(--soft);font-weight:600;white-space:nowrap}.h5v td.n{white-space:nowrap}
.h5v .bad{color:var(--bad)}.h5v .good{color:var(--good)}.h5v .warn{color:var(--warn)}
.h5v ul{padding-left:20px;margin:4px 0}.h5v li{margin:6px 0;overflow-wrap:anywhere}
.h5v .bars{display:grid;grid-template-columns:fit-content(45%) 1fr max-content;gap:4px 10px}
.h5v .bars span{overflow-wrap:anywhere}
.h5v .bar{background:var(--bar);height:12px;border-radius:3px;align-self:center;min-width:1px}
.h5v .bar[data-n="0"]{min-width:0}
.h5v svg{max-width:100%;height:auto;display:block}
@media (max-width:640px){.h5v thead{display:none}
.h5v tr{display:block;border-bottom:1px solid var(--line);padding:8px 0}
.h5v td,.h5v td.n{display:block;border:0;padding:1px 0;white-space:normal;overflow-wrap:anywhere}
.h5v td[data-is]::before{content:attr(data-is)": ";color:var(--soft)}}
@media (prefers-color-scheme:dark){.h5v{--ink:#e6e8ea;--soft:#a2abb4;--line:#3a4149;--paper:#14171a;
--card:#1d2226;--bar:#6aa9e0;--bad:#ff8a97;--good:#7fd296;--warn:#e5b95c}}
"""
_PAGE_STYLE = """
:root{color-scheme:light dark}body{margin:0;background:#fff}
main{max-width:1080px;margin:0 auto;padding:24px 16px}
@media (prefers-color-scheme:dark){body{background:#14171a}}
"""


class ChunkMap(NamedTuple):
    """Samples of a dataset, spread over all of it, and the chunks that hold them."""

    name: str
    num_samples: int
    """Samples of the dataset."""
    num_frames: int
    """Length of the second axis."""
    chunk: tuple[int, int]
    """Samples and frames of a chunk."""
    firsts: tuple[int, ...]
    """The first sample of each chunk row that is drawn, ascending."""
    is_written: tuple[bool, ...]
    """For each of these, whether any of its chunks was written."""
    what: str = "sample"
    """What a row is: a sample, or a frame of a recording."""


def report_page(
    report: Any, *, is_whole: bool = True, clips: str = "", maps: Sequence[ChunkMap] = ()
) -> str:
    """Returns a `FileReport` as a page, or as a part of one.

    Args:
        report: The report.
        is_whole: Whether it is a document of its own.
        clips: HTML of clips to look at.
        maps: Drawn as maps of samples across chunks.
    """
    parts = [f"<h1>{_text(report.path)}</h1>", f'<p class="soft">{_text(_head(report))}</p>']
    if report.problems:
        items = "".join(f"<li>{_text(item)}</li>" for item in report.problems)
        parts.append(f'<h2 class="bad">Problems</h2><ul>{items}</ul>')
    if call := report.call or report.sample_call:
        what = "recordings: a sample is a window of one" if report.call else "a row is a sample"
        parts.append(f"<h2>Open it</h2><p>{what}</p><pre>{_text(call)}</pre>")
    if report.samples_per_second is not None:
        text = rate_text(report.samples_per_second, report.from_disk)
        parts.append(f"<p>Predicted: <b>{_text(text)}</b></p>")
    if report.advice or not report.problems:
        parts.append(f"<h2>Advice</h2>{_advice(report)}")
    if clips:
        parts.append(f"<h2>Samples</h2>{clips}")
    if report.class_counts:
        parts.append(f"<h2>Labels</h2>{_bars(report.class_counts)}")
    parts.append(f"<h2>Datasets</h2>{_table(report.datasets)}")
    if maps:
        parts.append("<h2>Samples across chunks</h2>" + "".join(map(_map, maps)))
    body = f'<style>{_STYLE}</style><div class="h5v">{"".join(parts)}</div>'
    if not is_whole:
        return body
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_text(report.path)}</title><style>{_PAGE_STYLE}</style>"
    )
    return (
        f'<!doctype html><html lang="en"><head>{head}</head><body><main>{body}</main></body></html>'
    )


def _text(value: Any) -> str:
    # Names in a file may consist of any bytes.
    return html.escape(str(value).encode("utf-8", "backslashreplace").decode())


def _size(nbytes: int) -> str:
    """Returns a size that is not broken into two lines."""
    return size_text(nbytes).replace(" ", "&nbsp;")


def _head(report: Any) -> str:
    parts = [size_text(report.nbytes), counted(len(report.datasets), "dataset")]
    if report.sample_count is not None:
        parts.append(f"sample_count {report.sample_count}")
    if report.class_names:
        parts.append(counted(len(report.class_names), "class", "classes"))
    return ", ".join(parts)


def _advice(report: Any) -> str:
    if not report.advice:
        return '<p class="good">Nothing to do: it is stored in a way that trains fast.</p>'
    items = [
        f"<li><code>{_text(_listed(item.datasets))}</code>: {_text(item.text)}"
        + (f"<pre>{_text(item.command)}</pre>" if item.command else "")
        for item in report.advice
    ]
    return f"<ul>{'</li>'.join(items)}</li></ul>"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - 3
    return ", ".join(names[:3]) + (f", and {more} more" if more > 0 else "")


def _table(datasets: Sequence[Any]) -> str:
    heads = "".join(f"<th>{head}</th>" for head in ("name", "shape", "size", "stored", "read by"))
    rows = []
    found = families(datasets)
    for name, items in found[:_SHOWN]:
        item = items[0]
        times = f' <span class="soft">&times; {len(items)}</span>' if len(items) > 1 else ""
        how = PATHS[item.path] + (f": {item.reason}" if item.reason else "")
        if item.read_amplification > 1 or item.epoch_amplification > 1.05:
            how += f". Decodes {amplification_text(item)}"
        if item.samples_per_second is not None:
            how += f". Predicted: {rate_text(item.samples_per_second)}"
        size = _size(sum(each.nbytes for each in items))
        if item.filters:
            size += f", {_size(sum(each.stored_nbytes for each in items))} in the file"
        rows.append(
            f"<tr><td><code>{_text(name)}</code>{times}</td>"
            f'<td class="n" data-is="shape">{_text(common_shape(items))} {_text(item.dtype)}</td>'
            f'<td data-is="size">{size}</td>'
            f'<td data-is="stored">{_text(storage_text(item))}</td>'
            f'<td data-is="read by">{_text(how)}</td></tr>'
        )
    more = len(found) - _SHOWN
    rest = f'<p class="soft">... and {more} more</p>' if more > 0 else ""
    return (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{rest}"
    )


def _bars(counts: Sequence[tuple[str, int]]) -> str:
    most = max(1, *(count for _, count in counts))
    rows = [
        f'<span>{_text(name)}</span><span class="bar" data-n="{count}" '
        f'style="width:{100 * count / most:.1f}%">'
        f"</span><span>{count:,}</span>"
        for name, count in counts[:_SHOWN]
    ]
    more = len(counts) - _SHOWN
    rest = (
        f'<p class="soft">... and {counted(more, "more class", "more classes")}</p>'
        if more > 0
        else ""
    )
    return f'<div class="bars">{"".join(rows)}</div>{rest}'


def _map(drawn: ChunkMap) -> str:
    """Draws samples from left to right, their frames from top to bottom, and chunks as boxes."""
    width, height, space = 640, 120, 4
    count, in_row = len(drawn.firsts), drawn.chunk[0]
    across, down = width / count, height / max(1, drawn.num_frames)
    is_whole = count * in_row >= drawn.num_samples
    marked = count // 2  # the row whose sample is read
    boxes = []
    for number, first in enumerate(drawn.firsts):
        left, samples = number * across, min(in_row, drawn.num_samples - first)
        for top in range(0, drawn.num_frames, drawn.chunk[1]):
            bottom = min(top + drawn.chunk[1], drawn.num_frames)
            fill = "var(--bar)" if number == marked else "var(--card)"
            dash = "" if drawn.is_written[number] else ' stroke-dasharray="3 3"'
            boxes.append(
                f'<rect x="{left:.1f}" y="{top * down:.1f}" fill="{fill}" '
                f'width="{(across - space * (not is_whole)) * samples / in_row:.1f}" '
                f'height="{(bottom - top) * down:.1f}" '
                f'stroke="var(--soft)" fill-opacity="{0.35 if number == marked else 1}"{dash}/>'
            )
    each = (across - space * (not is_whole)) / in_row
    read = (min(in_row, drawn.num_samples - drawn.firsts[marked]) - 1) // 2
    one = f'<rect x="{marked * across + read * each:.1f}" y="0" width="{max(1, each):.1f}" '
    one += f'height="{height}" fill="none" stroke="var(--bad)" stroke-width="3"/>'
    chunks = -(-drawn.num_frames // drawn.chunk[1])
    of_rows = -(-drawn.num_samples // in_row)
    kind, marked_row = drawn.what, drawn.firsts[marked] + read
    drawn_rows = f"all {drawn.num_samples:,} {kind}s"
    if not is_whole:
        drawn_rows = f"{count} of {of_rows:,} rows of chunks, spread over {drawn_rows},"
    text = (
        f"{drawn_rows} from left to right, {drawn.num_frames} along the second axis from top to "
        f"bottom. Reading one {kind} (red, number {marked_row:,}) decodes what is blue: "
        f"{chunks} chunk{'s' * (chunks != 1)}, of {in_row} {kind}{'s' * (in_row != 1)} each."
    )
    if not all(drawn.is_written):
        text += " Chunks that were never written are dashed."
    return (
        f"<p><code>{_text(drawn.name)}</code>: {text}</p>"
        f'<svg viewBox="-2 -2 {width + 4} {height + 4}" width="{width + 4}" role="img" '
        f'aria-label="{_text(drawn.name)}">{"".join(boxes)}{one}</svg>'
    )
