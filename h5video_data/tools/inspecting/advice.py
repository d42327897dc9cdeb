"""What to do about how datasets are stored: rules from facts to one short line each. Pure."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from h5video_data.planning.access import Access
from h5video_data.reading.byte_sources import BYTES_PER_READ
from h5video_data.storage.file_identity import ObjectPath
from h5video_data.storage.system import shell_words
from h5video_data.summary import counted

from .report import Advice, DatasetReport
from .text import size_text

# A random read of one sample that decodes this many times its bytes is worth a new layout; so is
# an epoch that decodes this many times its bytes.
BAD_AMPLIFICATION = 2.0

# A sample in fewer pieces than this is read well enough, however small they are.
_MANY_PIECES = 8

# Chunks of as many bytes gain nothing by the compiled helper.
_LARGE = 1 << 20

# Commands for one file; where more would be needed, none is given.
_MAX_COMMANDS = 4


@dataclass(frozen=True, eq=False)
class Facts:
    """A dataset that can be read, and what the rules need of it beyond its report."""

    report: DatasetReport
    access: Access
    num_samples: int | None
    """Its rows in use; None: the attribute that says it is not valid."""
    whole_cache_nbytes: int = 0
    """`read_ahead_bytes` with which each chunk is decoded once an epoch."""
    lacks_helper: bool = False
    """Whether the compiled helper would decode many of its chunks in one call, and is missing."""


def advise(
    facts: Sequence[Facts],
    *,
    memory_nbytes: int,
    names: Sequence[str] = (),
    exists: Callable[[str], bool] = os.path.exists,
    has_options: bool = False,
) -> list[tuple[Facts, Advice]]:
    """Returns the advice for each dataset, in their order.

    Args:
        facts: The datasets.
        memory_nbytes: Bytes of the machine's memory.
        names: Those of all datasets of the file.
        exists: Whether there is a file of that name, which a command must not name as its output.
        has_options: Whether the file was opened with `storage_options`, of which nothing is shown.
    """
    reasons = [(item, _why_anew(item)) for item in facts if len(item.report.shape) > 2]
    wrong = [item for item, reason in reasons if reason]
    together = _recordings(wrong, names)
    commands = _commands([item for item in wrong if id(item) not in together], exists, has_options)
    found = []
    for item, reason in reasons:
        report = item.report
        if reason and id(item) in together:
            pattern, nbytes = together[id(item)]
            size = f" ({size_text(nbytes)}; with --compression lzf, less)" if report.filters else ""
            command = _repack(item.access.stored.path, 0, [pattern], exists, has_options)
            found.append((item, Advice(_REASONS[reason].format(size), command)))
        elif reason == "memory" and item.whole_cache_nbytes <= memory_nbytes // 2:
            text = (
                f"read_ahead_bytes={item.whole_cache_nbytes} decodes each chunk once an epoch, not "
                f"{report.epoch_amplification:.2g} times"
            )
            found.append((item, Advice(text)))
        elif reason and id(item) in commands:
            found.append((item, Advice(_REASONS[reason].format(_size(report)), commands[id(item)])))
        if report.num_unwritten_chunks:
            count, value = report.num_unwritten_chunks, item.access.stored.fill_value
            were, are = ("was", "is") if count == 1 else ("were", "are")
            chunks = counted(report.num_chunks, "chunk")
            text = f"{count} of {chunks} {were} never written, and {are} read as {value!s}"
            found.append((item, Advice(text)))
        shape = item.access.stored.chunk_shape or ()
        if item.lacks_helper and math.prod(shape) * item.access.stored.dtype.itemsize < _LARGE:
            text = (
                "its small chunks are decoded one by one: install this package where there is a C "
                "compiler, and many are decoded in a call"
            )
            found.append((item, Advice(text)))
        if item.access.stored.dtype.kind == "f":
            part = _PARTS.get(item.access.stored.dtype.itemsize, "a part")
            text = (
                f"if these are pixels, uint8 takes {part} of the bytes: repack --dtype uint8, with "
                "--scale 255 if they are from 0 to 1; cast on the accelerator"
            )
            found.append((item, Advice(text)))
    return found


_PARTS = {2: "half", 4: "a quarter", 8: "an eighth"}

_Reason = Literal["h5py", "memory", "decodes", "pieces"]

_REASONS: dict[_Reason, str] = {
    "h5py": "store it anew to have it read directly{}",
    "memory": "store it anew, and no memory is needed{}",
    "decodes": "store it anew{}",
    "pieces": "store it anew: a sample is read in small pieces{}",
}


def _size(report: DatasetReport) -> str:
    """What it takes without its filters; `--compression` is for those who have no room for that."""
    if not report.filters:
        return ""
    return f" ({size_text(report.nbytes)}; with --compression lzf, less)"


def _why_anew(item: Facts) -> _Reason | None:
    """Returns why a dataset is to be stored anew; None: it need not be."""
    report = item.report
    if item.access.kind == "h5py":
        return "h5py"
    if item.access.kind == "memory":
        return None
    if item.access.kind == "chunks" and report.epoch_amplification >= BAD_AMPLIFICATION:
        return "memory"
    if item.access.kind == "direct" and report.read_amplification >= BAD_AMPLIFICATION:
        return "decodes"
    decoded_nbytes = item.access.stored.row_decoded_nbytes
    pieces = report.reads_per_sample
    if pieces >= _MANY_PIECES and decoded_nbytes < BYTES_PER_READ * pieces:
        return "pieces"
    return None


def _commands(
    facts: Sequence[Facts], exists: Callable[[str], bool], has_options: bool
) -> dict[int, str]:
    """Returns what to type to store datasets anew, by the `id` of each.

    Datasets with the same rows in use are stored by one command, since each makes a new file. Those
    of other rows get a file of their own: the attribute `sample_count` of the new one would cut
    them short.
    """
    groups: dict[tuple[str, str, int], list[Facts]] = {}
    for item in facts:
        if item.num_samples:  # `repack` writes no file without samples
            stored = item.access.stored
            folder = stored.name.strip("/").rpartition("/")[0]
            groups.setdefault((stored.path, folder, item.num_samples), []).append(item)
    commands: dict[int, str] = {}
    num_outs: dict[str, int] = {}
    for (path, _, _), members in groups.items():
        number = num_outs.get(path, 0)
        num_outs[path] = number + 1
        names = dict.fromkeys(item.access.stored.name.strip("/") for item in members)
        command = _repack(path, number, list(names), exists, has_options)
        commands |= {id(item): command for item in members}
    # Of many, none would be followed.
    return {
        id(item): commands[id(item)]
        for item in facts
        if id(item) in commands and num_outs[item.access.stored.path] <= _MAX_COMMANDS
    }


def _repack(
    path: str,
    number: int,
    names: Sequence[str],
    exists: Callable[[str], bool],
    has_options: bool,
) -> str:
    out = _new_name(path, number, exists)
    words = ["h5video-data", "repack", _argument(path), _argument(out)]
    if list(names) != ["X"]:
        words += [word for name in names for word in _option("--x", name)]
    if has_options:
        words += ["--storage-options", "{...}"]
    return shell_words(words)


def _recordings(facts: Sequence[Facts], names: Sequence[str]) -> dict[int, tuple[str, int]]:
    """Finds datasets that differ but for a number in their names: one command stores all anew.

    Returns:
        By the `id` of each, the pattern that stands for them, and the bytes of all.
    """
    families: dict[tuple[str, str], list[Facts]] = {}
    for item in facts:
        stored = item.access.stored
        is_whole = item.num_samples == item.report.shape[0]
        if is_whole and stored.name.strip("/") == item.report.name.strip("/"):  # no link
            families.setdefault((stored.path, _pattern(item.report.name)), []).append(item)
    found = {}
    for (_, pattern), members in families.items():
        expression = "[^/]*".join(map(re.escape, pattern.split("*")))
        meant = [name for name in names if re.fullmatch(expression, name)]
        # Those with the same rows in one group are stored by one command anyway.
        places = {(i.report.name.rpartition("/")[0], i.report.shape[0]) for i in members}
        if len(places) > 1 and all(_pattern(name) == pattern for name in meant):
            nbytes = sum(item.report.nbytes for item in members)
            found.update({id(item): (pattern, nbytes) for item in members})
    return found


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "*", name)


def _new_name(path: str, number: int, exists: Callable[[str], bool]) -> str:
    """Returns the name of a file that there is not yet, for the output of a command."""
    if isinstance(path, ObjectPath):  # it is written to this machine
        path = path.partition("#")[0].rpartition("/")[2]
    stem = os.path.splitext(path)[0]
    plain = f"{stem}_fast.h5" if not number else f"{stem}_fast_{number + 1}.h5"
    names = [plain, *(f"{stem}_fast_{number + 1}_{i}.h5" for i in range(2, 100))]
    return next((name for name in names if not exists(name)), plain)


def _argument(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path


def _option(flag: str, value: str) -> list[str]:
    return [f"{flag}={value}"] if value.startswith("-") else [flag, value]
