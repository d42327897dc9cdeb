"""Reports of `inspect` as text: a block for each dataset or, of many, a row for those alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from h5video_data.summary import counted

# Of more datasets, those alike are a row of a table.
MAX_BLOCKS = 12
# Rows of that table.
MAX_ROWS = 60

PATHS = {
    "memory": "memory",
    "direct": "byte ranges, each sample straight into its place",
    "chunks": "chunks, each decoded for several samples",
    "pictures": "bytes of a row, decoded straight into its place",
    "h5py": "h5py (slow path)",
    "none": "not readable",
}

_BOLD, _RED, _YELLOW, _GREEN = "1", "31", "33", "32"


def size_text(num_bytes: float) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return (
                counted(round(num_bytes), "byte") if unit == "bytes" else f"{num_bytes:.1f} {unit}"
            )
        num_bytes /= 1024
    return f"{num_bytes:.1f} TiB"


def report_text(report: Any, *, is_coloured: bool = False) -> str:
    """Returns a `FileReport` or a `DatasetReport` as text.

    Args:
        report: The report.
        is_coloured: Whether it is for a terminal that shows ANSI colours.
    """
    if not hasattr(report, "datasets"):
        return _block(report, is_coloured)

    def paint(text: str, code: str) -> str:
        return _paint(text, code, is_coloured)

    lines = [f"{paint(report.path, _BOLD)}: {_head(report)}"]
    if report.call:
        lines.append(f"recordings, to be opened by\n  {report.call}")
    elif report.sample_call:
        lines.append(f"samples, to be opened by\n  {report.sample_call}")
    if report.samples_per_second is not None:
        lines.append(f"predicted: {rate_text(report.samples_per_second, report.from_disk)}")
    if len(report.datasets) <= MAX_BLOCKS:
        lines += [_block(item, is_coloured) for item in report.datasets]
    else:
        lines += _table(report.datasets)
        lines += [
            f"{paint('advice', _YELLOW)}: {', '.join(item.datasets[:3])}: {item}"
            for item in report.advice
        ]
    lines += [f"{paint('problem', _RED)}: {item}" for item in report.problems]
    return "\n".join(lines)


def rate_text(
    samples_per_second: float, from_disk: float | None = None, unit: str = "samples"
) -> str:
    """Returns a rate with two digits that count, and where the bytes came from, if it is known."""
    text = f"{float(f'{samples_per_second:.2g}'):,.5g} {unit}/s"
    if from_disk is None:
        return text
    if 0.05 < from_disk < 0.95:
        return f"{text}, {from_disk:.0%} of the bytes from the disk"
    return f"{text} from the {'disk' if from_disk > 0.5 else 'page cache'}"


def _head(report: Any) -> str:
    head = size_text(report.nbytes)
    if report.sample_count is not None:
        head += f", sample_count {report.sample_count}"
    if report.class_names:
        names = report.class_names
        head += f", {counted(len(names), 'class', 'classes')} ({', '.join(names[:8])}"
        head += ", ...)" if len(report.class_names) > 8 else ")"
    return head


def storage_text(item: Any) -> str:
    """Returns how a dataset is stored."""
    text: str = item.storage
    if item.chunk_shape:
        text += f", chunks {item.chunk_shape}"
    if item.num_unwritten_chunks:
        text += f" ({item.num_unwritten_chunks} of {item.num_chunks} never written)"
    if item.filters:
        text += f", filters {' + '.join(item.filters)}"
    return text + (f"; {_pictures_text(item.pictures)}" if item.pictures is not None else "")


def _pictures_text(look: Any) -> str:
    names = {name: name.upper() if name else "neither JPEG nor PNG" for name in look.codecs}
    kinds = [f"{count} {names[name]}" for name, count in look.codecs.items()]
    sizes = [f"{rows} x {columns}" for rows, columns in look.sizes[:3]]
    more = ", ..." if len(look.sizes) > 3 else ""
    return (
        f"of {counted(look.num_rows, 'row')} looked at, {', '.join(kinds)}, "
        f"of {', '.join(sizes)}{more} pixels and {size_text(round(look.mean_nbytes))} on average"
    )


def _block(item: Any, is_coloured: bool) -> str:
    head = f"{_paint(item.name, _BOLD, is_coloured)}: {item.shape} {item.dtype}, "
    head += size_text(item.nbytes)
    if item.filters:
        head += f", {size_text(item.stored_nbytes)} in the file"
    is_read_once = item.path == "memory" and len(item.shape) < 3
    if not item.advice and (is_read_once or not item.shape):
        # Labels and the like: there is nothing to do about how they are stored.
        return f"{head}; {item.reason}"
    lines = [
        head,
        f"  stored    {storage_text(item)}",
        f"  read by   {PATHS[item.path]}" + (f": {item.reason}" if item.reason else ""),
    ]
    if item.read_amplification > 1 or item.epoch_amplification > 1.05:
        lines.append(f"  decodes   {amplification_text(item)}")
    if item.samples_per_second is not None:
        lines.append(f"  predicted {rate_text(item.samples_per_second)}")
    advice = _paint("advice", _YELLOW, is_coloured)
    return "\n".join([*lines, *(f"  {advice}    {text}" for text in item.advice)])


def amplification_text(item: Any) -> str:
    """Returns how many bytes are decoded for those of a sample."""
    times = f"{item.read_amplification:.3g}"
    text = f"{'' if times == '1' else f'{times} times '}the bytes of a sample, for it alone"
    if item.path != "chunks":
        return text
    times = f"{item.epoch_amplification:.3g}"
    often = "once" if times == "1" else f"{times} times"
    return f"{text}; in a shuffled epoch, with the cache, each chunk {often}"


def _table(datasets: Sequence[Any]) -> list[str]:
    """Returns a row for each family of datasets that are alike but for numbers in their names."""
    heads = ("dataset", "shape", "dtype", "size", "stored", "read by")
    rows = [
        (
            name + (f"  x{len(items)}" if len(items) > 1 else ""),
            common_shape(items),
            items[0].dtype,
            size_text(sum(item.nbytes for item in items)),
            "+".join([items[0].storage, *items[0].filters]),
            items[0].path,
        )
        for name, items in families(datasets)
    ]
    more = len(rows) - MAX_ROWS
    rows = [heads, *rows[:MAX_ROWS]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return lines + ([f"... and {counted(more, 'more row')}; --json has all"] if more > 0 else [])


def families(datasets: Sequence[Any]) -> list[tuple[str, list[Any]]]:
    """Groups datasets that are alike but for numbers in their names, and their rows.

    Returns:
        For each, the name with `*` for what differs, and its datasets.
    """
    found: dict[tuple[Any, ...], list[Any]] = {}
    for item in datasets:
        form = (re.sub(r"\d+", "*", item.name), item.shape[1:], item.dtype, item.storage)
        found.setdefault((*form, item.filters, item.path), []).append(item)
    return [(items[0].name if len(items) == 1 else key[0], items) for key, items in found.items()]


def common_shape(items: Sequence[Any]) -> str:
    """Returns the shape of datasets that differ in their first axis at most."""
    lengths = sorted({item.shape[0] for item in items if item.shape})
    if len(lengths) < 2:
        return str(items[0].shape)
    rest = "".join(f", {length}" for length in items[0].shape[1:])
    return f"({lengths[0]} to {lengths[-1]}{rest})"


def _paint(text: str, code: str, is_coloured: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if is_coloured else text
