"""A report as a table for people, as JSON, and as a picture."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WIDTH = 100


def table(report: dict[str, Any]) -> str:
    """The report as text, a table for each layout."""
    return "\n".join(_lines(report))


def _lines(report: dict[str, Any]) -> Iterator[str]:
    machine = report["machine"]
    yield (
        f"{machine['processors']} processors ({machine['processor']}), "
        f"{machine['memory_gib']} GiB, {machine['file_system']}, Linux {machine['kernel']}, "
        f"Python {machine['python']}; load {report['load_average_before']:.1f} before"
    )
    yield from machine["gpus"]
    yield ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    yield f"memory copies, all threads: {report['memory_copy'] / 1e6:,.0f} MB/s"
    for layout in report["layouts"]:
        yield ""
        if "rows" in layout:
            yield from _layout_lines(layout)
        else:
            yield f"{layout['layout']}: skipped: {layout['skipped']}"
    yield ""
    yield (
        "MB/s: median ± half the range of the middle half. x plain: times as fast as the plain "
        "generator."
    )
    yield (
        "of limit: share of what the machine can do. AU: accelerator utilisation. first: until "
        "the first batch."
    )


def describe(layout: dict[str, Any]) -> str:
    """A line on a layout's set."""
    chunks = "contiguous" if layout["chunks"] is None else f"chunks {tuple(layout['chunks'])}"
    filters = f", {layout['filters']} ({layout['stored_share']:.0%} of its size)"
    share = layout["cached_share"]
    cache = "" if share is None else f" ({share:.0%} of the file in it)"
    count = layout["num_samples"]
    of_all = f" (of {layout['num_stored_samples']})" if count < layout["num_stored_samples"] else ""
    return (
        f"{count} samples{of_all} of {tuple(layout['sample_shape'])} {layout['dtype']}, "
        f"{layout['sample_bytes']:,} bytes; {chunks}{filters if layout['filters'] else ''}; batch "
        f"{layout['batch_size']}; page cache {'dropped' if layout['is_cold'] else 'warm'}{cache}"
    )


def _layout_lines(layout: dict[str, Any]) -> Iterator[str]:
    yield from textwrap.wrap(f"{layout['layout']}: {describe(layout)}", WIDTH)
    if layout["limit"] is not None:
        middle, half = layout["limit"]
        name = layout["limit_name"]
        yield f"limit: {name}: {middle / 1e6:,.0f} ± {half / 1e6:,.0f} MB/s"
    if layout["step_seconds"]:
        step = layout["step_seconds"]
        demand = layout["batch_size"] * layout["sample_bytes"] / step
        yield (
            f"emulated accelerator: {step * 1000:.2f} ms a step, which asks for "
            f"{demand / 1e6:,.0f} MB/s"
        )
        if layout.get("resident_utilisation"):
            yield f"AU of a batch that is in memory: {layout['resident_utilisation'][0]:.0%}"
    yield (
        f"{'contender':20}{'MB/s':>16}{'x plain':>9}{'of limit':>10}{'AU':>6}{'first':>9}  checked"
    )
    for row in layout["rows"]:
        if row["failed"]:
            yield from textwrap.wrap(
                f"{row['contender']:20}FAILED: {row['failed']}", WIDTH, subsequent_indent=" " * 20
            )
        elif not row["skipped"]:
            yield _row_line(row)
    for row in layout["rows"]:
        if row.get("versions"):
            versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
            yield f"{row['contender']} has an environment of its own: {versions}"
        if row["skipped"]:
            yield f"skipped: {row['contender']}: {row['skipped']}"
    if "training" in layout:
        yield from _training_lines(layout["training"])


def _row_line(row: dict[str, Any]) -> str:
    middle, half = row["bytes_per_second"]
    used = row["utilisation"]
    checked = f"{row['checked_samples']}{'' if row['checked_whole_epoch'] else ' (not all)'}"
    return (
        f"{row['contender']:20}{middle / 1e6:9,.0f} ±{half / 1e6:5,.0f}"
        f"{_text(row['times_plain'], '9.1f'):>9}{_text(row['of_limit'], '10.2f'):>10}"
        f"{_text(used and used[0], '6.0%'):>6}{row['first_batch_seconds'] * 1000:6,.0f} ms"
        f"  {checked}"
    )


def _training_lines(training: dict[str, Any]) -> Iterator[str]:
    yield f"training on {training['device']}, Keras on {training['backend']}, {training['policy']}"
    if training["link"]:
        yield "to the device, by the driver alone: " + ", ".join(
            f"from {kind} memory {speed / 1e6:,.0f} MB/s"
            for kind, speed in training["link"].items()
        )
    if not training["has_device_argument"]:
        yield "device=: not in this release"
    for copy in training["copies"]:
        stored, on_device, on_host = (
            f"{copy[key][0] * 1000:.2f} ms" for key in ("stored", "cast_on_device", "cast_on_host")
        )
        yield (
            f"batch {copy['batch_size']}, {copy['num_bytes'] / 1e6:,.1f} MB, to the device: "
            f"{stored} ({copy['bytes_per_second'] / 1e6:,.0f} MB/s); and cast to float32 there: "
            f"{on_device}; cast on the host first: {on_host}"
        )
        for feed, (middle, half) in copy["delivered_bytes_per_second"].items():
            yield f"  {feed}: {middle / 1e6:,.0f} ± {half / 1e6:,.0f} MB/s arrive on the device"
    yield f"{'model':8}{'batch':>6}  {'feed':36}{'resident':>12}{'fed':>18}{'AU':>6}{'MB/s':>9}"
    for row in training["rows"]:
        head = f"{row['model']:8}{row['batch_size']:6}  "
        if row["failed"]:
            yield f"{head}FAILED: {row['failed']}"
            continue
        middle, half = row["step_seconds"]
        yield (
            f"{head}{row['feed']:36}{row['resident_step_seconds'][0] * 1000:9.2f} ms"
            f"{middle * 1000:9.2f} ±{half * 1000:5.2f} ms{row['utilisation'][0]:6.0%}"
            f"{row['bytes_per_second'] / 1e6:9,.0f}"
        )


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def write_json(report: dict[str, Any], path: str) -> None:
    """Writes the report with every run."""
    Path(path).write_text(json.dumps(report, indent=1) + "\n")


def draw(report: dict[str, Any], path: str) -> None:
    """Draws bars by contender and layout, the limit as a line, on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    layouts = [layout for layout in report["layouts"] if _drawn(layout)]
    if not layouts:
        return
    num_columns = min(2, len(layouts))
    num_rows = -(-len(layouts) // num_columns)
    heights = [
        0.9 + 0.27 * max(len(_drawn(layout)) for layout in layouts[i : i + num_columns])
        for i in range(0, len(layouts), num_columns)
    ]
    figure, grid = plt.subplots(
        num_rows,
        num_columns,
        figsize=(6.4 * num_columns, sum(heights) + 0.9),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    speeds = [row["bytes_per_second"][0] / 1e6 for layout in layouts for row in _drawn(layout)]
    limits = [layout["limit"][0] / 1e6 for layout in layouts if layout["limit"] is not None]
    for axes, layout in zip(grid.flat, layouts, strict=False):
        # Room to the right for the figures.
        axes.set(xscale="log", xlim=(min(speeds) / 2, 4 * max(speeds + limits)))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        _draw_layout(axes, layout)
    for axes in list(grid.flat)[len(layouts) :]:
        axes.axis("off")
    for axes in grid[-1]:
        axes.set_xlabel("MB/s of samples, logarithmic")
    machine = report["machine"]
    figure.suptitle(
        f"{machine['processors']} processors, {machine['memory_gib']:.0f} GiB, "
        f"TensorFlow {report['versions'].get('tensorflow', '?')}, h5py "
        f"{report['versions'].get('h5py', '?')}; batch {layouts[0]['batch_size']}, page cache "
        f"{'dropped' if layouts[0]['is_cold'] else 'warm'}; medians, and the middle half as a line",
        fontsize=9,
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _drawn(layout: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that were measured, the slowest first."""
    rows = [row for row in layout.get("rows", []) if not row["failed"] and not row["skipped"]]
    return sorted(rows, key=lambda row: float(row["bytes_per_second"][0]))


def _draw_layout(axes: Any, layout: dict[str, Any]) -> None:
    rows = _drawn(layout)
    values = [row["bytes_per_second"][0] / 1e6 for row in rows]
    halves = [row["bytes_per_second"][1] / 1e6 for row in rows]
    colours = [_colour(row["contender"]) for row in rows]
    places = range(len(rows))
    axes.barh(places, values, xerr=halves, color=colours, height=0.72, ecolor="#333333")
    axes.set_yticks(places, [row["contender"] for row in rows])
    for place, (value, half) in enumerate(zip(values, halves, strict=True)):
        axes.annotate(
            f"{value:,.0f}",
            (value + half, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
        )
    if layout["limit"] is not None:
        limit = layout["limit"][0] / 1e6
        axes.axvline(limit, color="#b03030", linestyle="--", linewidth=1.3, zorder=0.5)
        axes.set_title(
            f"limit, {layout['limit_name']}: {limit:,.0f} MB/s",
            fontsize=8,
            color="#b03030",
            loc="right",
        )
    axes.set_title(layout["layout"], fontsize=10, fontweight="bold", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _colour(entry: str) -> str:
    if entry.startswith("h5video_data"):
        return "#2a7f62"
    return "#c08a3e" if entry.startswith("plain") else "#9aa5b1"
