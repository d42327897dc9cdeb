"""A report as a table for people, and as a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 100


def table(report: dict[str, Any]) -> str:
    """Returns the report as text, a table for each layout."""
    lines = [head(report), f"load average before: {report['load_average_before']:.1f}"]
    for layout in report["layouts"]:
        lines += ["", *_layout_lines(layout)]
    return "\n".join([
        *lines,
        "",
        "MB/s: median ± half the range of the middle half. x plain: times as fast as the plain",
        "generator. of limit: share of what the machine can do. AU: accelerator utilisation.",
        "first: until the first batch.",
    ])  # fmt: skip


def head(report: dict[str, Any]) -> str:
    """Returns the lines on the machine and the versions."""
    machine = report["machine"]
    return (
        f"{machine['processors']} processors ({machine['processor']}), "
        f"{machine['memory_gib']} GiB, {machine['file_system']}, Linux {machine['kernel']}, "
        f"Python {machine['python']}\n{_names(report['versions'])}"
    )


def _names(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _layout_lines(layout: dict[str, Any]) -> Iterator[str]:
    chunks = "contiguous" if layout["chunks"] is None else f"chunks {tuple(layout['chunks'])}"
    filters = f", {layout['filters']} ({layout['stored_share']:.0%} of its size)"
    share = layout["cached_share"]
    cache = "" if share is None else f" ({share:.0%} of the file in it)"
    count, stored = layout["num_samples"], layout["num_stored_samples"]
    yield from textwrap.wrap(
        f"{layout['layout']}: {count} samples{f' (of {stored})' if count < stored else ''} of "
        f"{tuple(layout['sample_shape'])} {layout['dtype']}, {layout['sample_bytes']:,} bytes; "
        f"{chunks}{filters if layout['filters'] else ''}; batch {layout['batch_size']}; "
        f"page cache {'dropped' if layout['is_cold'] else 'warm'}{cache}",
        WIDTH,
    )
    if layout["limit"]:
        yield f"limit: {layout['limit_name']}: {megabytes(layout['limit'])} MB/s"
    if layout["step_seconds"]:
        demand = layout["batch_size"] * layout["sample_bytes"] / layout["step_seconds"]
        yield (
            f"emulated accelerator: {layout['step_seconds'] * 1000:.2f} ms a step, which asks for "
            f"{demand / 1e6:,.0f} MB/s"
        )
    if layout["resident_utilisation"]:
        yield f"AU of a batch that is in memory: {layout['resident_utilisation'][0]:.0%}"
    yield (
        f"{'contender':20}{'MB/s':>16}{'x plain':>9}{'of limit':>10}{'AU':>6}{'first':>9}  checked"
    )
    last = []
    for row in layout["rows"]:
        name = f"{row['contender']:20}"
        if row["failed"]:
            text = f"{name}FAILED: {row['failed']}"
            yield from textwrap.wrap(text, WIDTH, subsequent_indent=" " * 20)
        elif row["skipped"]:
            last.append(f"skipped: {row['contender']}: {row['skipped']}")
        else:
            used = row["utilisation"] and row["utilisation"][0]
            yield (
                f"{name}{megabytes(row['bytes_per_second']):>16}{_text(row['times_plain'], '9.1f')}"
                f"{_text(row['of_limit'], '10.2f')}{_text(used, '6.0%')}"
                f"{row['first_batch_seconds'] * 1000:6,.0f} ms  {row['checked_samples']}"
                f"{'' if row['checked_all'] else ' (not all)'}"
            )
        if row.get("versions"):
            last.append(
                f"{row['contender']} has an environment of its own: {_names(row['versions'])}"
            )
    yield from last


def megabytes(figures: tuple[float, float]) -> str:
    """Returns a median and its spread, given in bytes, as text."""
    return f"{figures[0] / 1e6:,.0f} ±{figures[1] / 1e6:5,.0f}"


def _text(value: float | None, form: str) -> str:
    return "-".rjust(int(form.split(".")[0])) if value is None else format(value, form)


def draw(report: dict[str, Any], path: Path) -> None:
    """Draws bars by contender and layout, the limit as a line, on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    layouts, red = report["layouts"], "#b03030"
    rows = [[row for row in layout["rows"] if "bytes_per_second" in row] for layout in layouts]
    figure, grid = plt.subplots(
        -(-len(layouts) // 2), 2, figsize=(13, 1 + 0.15 * sum(map(len, rows)) + len(layouts)),
        sharex=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    for axes in grid.flat[len(layouts) :]:
        axes.axis("off")
    for axes, layout, measured in zip(grid.flat, layouts, rows, strict=False):
        measured.sort(key=lambda row: row["bytes_per_second"][0])
        names = [row["contender"] for row in measured]
        # Of two columns also where none was measured.
        figures = np.array([row["bytes_per_second"] for row in measured]).reshape(-1, 2)
        values, halves = figures.T / 1e6
        colours = {"h5video_data": "#2a7f62", "plain": "#c08a3e"}
        colour = [colours.get(name.split("-")[0], "#9aa5b1") for name in names]
        bars = axes.barh(names, values, xerr=halves, color=colour, ecolor="#333333")
        axes.bar_label(bars, fmt=" {:,.0f}", fontsize=8)
        axes.tick_params("y", labelsize=8)
        axes.set(xscale="log", xlabel="MB/s of samples, logarithmic")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_title(layout["layout"], fontsize=10, fontweight="bold", loc="left")
        if layout["limit"]:
            limit = layout["limit"][0] / 1e6
            axes.axvline(limit, color=red, linestyle="--", zorder=0.5)
            text = f"limit, {layout['limit_name']}: {limit:,.0f} MB/s"
            axes.set_title(text, fontsize=8, color=red, loc="right")
    cache = "dropped" if layouts[0]["is_cold"] else "warm"
    title = f"{head(report)}; batch {layouts[0]['batch_size']}, page cache {cache}; medians, and "
    title += "the middle half as a line"
    figure.suptitle(title, fontsize=7, wrap=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
