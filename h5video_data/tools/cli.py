"""The command `h5video-data`."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from h5video_data import __version__
from h5video_data.errors import ArgumentError, H5VideoError
from h5video_data.storage.codecs import BUILT_IN_COMPRESSIONS, COMPRESSIONS
from h5video_data.summary import counted

from .demo import run_demo
from .flags import in_flags, indices_of, json_object_of, size_of
from .inspecting.text import rate_text, report_text, size_text
from .inspection import inspect
from .pack import LAYOUTS, pack
from .packing.clip_rules import SHORT
from .packing.encoded_rows import CODECS, ROWS
from .packing.fitting import FITS
from .repack import Estimate, repack


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments; None: those of the process.

    Returns:
        The exit code: 0, or 1 on an error. A usage error exits with 2.
    """
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As for stderr: names in a file may consist of any bytes.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = int(options.run(options))
        sys.stdout.flush()  # raises BrokenPipeError here, not at exit
        return status
    except KeyboardInterrupt:
        if options.debug:
            raise
        print("h5video-data: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of the output has seen enough. Without this, Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (H5VideoError, OSError) as error:
        if options.debug:
            raise
        message = in_flags(" ".join(str(error).split()), options.flags)
        print(f"h5video-data: {message}", file=sys.stderr)
        return 1


# Of more classes, a line has their number alone.
_MAX_CLASSES = 12

EXIT_CODES = "exit codes: 0 done; 1 an error; 2 wrong usage; 130 interrupted"


# Arguments


def _parser() -> argparse.ArgumentParser:
    """Returns the parser, whose arguments have the names of those of the Python functions."""
    # `--debug` may stand before or behind the subcommand; there, it has no default of its own.
    debug = argparse.ArgumentParser(add_help=False)
    text = "show the traceback of an error"
    debug.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=text)
    description = "Train tf.keras models on video in HDF5."
    parser = argparse.ArgumentParser(
        prog="h5video-data", description=description, epilog=EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--debug", action="store_true", help=text)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int], usage: str = "", **options: Any
    ) -> Any:
        # All options would be a page before each error of usage.
        usage = f"%(prog)s [options] {usage}".strip()
        new = commands.add_parser(name, parents=[debug], usage=usage, **options)
        new.set_defaults(run=run)
        return new.add_argument

    add = command(
        "inspect",
        _inspect,
        "FILE",
        help="show how a file is stored and will be read, and what to do about it",
        epilog="Exit codes: 0: no problem; 1: a problem stands in the way of training, or an "
        "error; 2: wrong usage; 130: interrupted.",
    )
    add("path", metavar="FILE")
    _add_storage_options(add)
    add("--json", action="store_true", help="print JSON")
    text = "write a page with samples, labels and chunks as well; it needs no network"
    add("--html", metavar="REPORT.html", help=text)
    text = "read and decode for two seconds, to predict samples per second"
    add("--probe", action="store_true", help=text)
    text = "memory for reading that is counted with (default: that of a loader)"
    add("--read-ahead-bytes", type=int, metavar="N", help=text)
    text = "follow links, virtual datasets and external storage out of the folder of the file"
    add("--allow-external", action="store_true", help=text)

    add = command(
        "repack",
        _repack,
        "FILE [FILE ...] OUT.h5",
        help="write a file in the layout that trains fastest",
        description="Several files are joined, in the order given. The files are only read.",
        epilog=EXIT_CODES,
    )
    add("path", metavar="FILE", nargs="+")
    add("out", metavar="OUT.h5")
    _add_storage_options(add)
    text = "a dataset of samples, or recordings ('data/*/x'); may be given several times"
    add("--x", action="append", metavar="NAME", help=f"{text} (default: X)")
    add("--chunks", choices=["sample"], help="one chunk per sample, compressed or not")
    text = "the same, or, for datasets that are frames (--x 'images/image*'), whole recordings"
    add("--layout", choices=["contiguous", "sample-chunks", "recordings"], help=text)
    add("--level", type=int, metavar="N", help="level of the compression (default: the codec's)")
    text = "size of a frame (default: as it is)"
    add("--image-size", type=size_of, metavar="N|ROWSxCOLUMNS", help=text)
    text = "store values as bytes, which they must fit (default: as they are)"
    add("--dtype", choices=["uint8"], help=text)
    text = "multiply values by this before they become bytes: 255, if they are from 0 to 1"
    add("--scale", type=float, metavar="FACTOR", help=text)
    text = "move channels behind rows and columns"
    add("--channels-last", action="store_true", default=None, help=text)
    text = "write the samples of one side of a split only"
    add("--subset", choices=["training", "validation"], help=text)
    text = "with --subset: which part of the samples is for validation"
    add("--validation-split", type=float, metavar="FRACTION", help=text)
    add("--seed", type=int, metavar="N", help="of the split (default: 0)")
    text = "keep samples of a group together: a dataset of ids; or label: as many of each class"
    add("--split-by", metavar="NAME", help=text)
    text = "write these samples only: 0:100, 3,5,8, or @FILE of numbers (text or .npy)"
    add("--indices", type=indices_of, metavar="NUMBERS|@FILE", help=text)
    text = "write N files, OUT-00000-of-0000N.h5, ..., with a part of the samples each"
    add("--shards", type=int, metavar="N", help=text)
    text = "image: rows of numbers are pictures, too, padded; none: no row is decoded"
    add("--decode", choices=["auto", "image", "none"], help=text)
    text = "follow links, virtual datasets and external storage out of the folders of the files"
    add("--allow-external", action="store_true", help=text)
    text = "memory for reading (default: that of a loader)"
    add("--read-ahead-bytes", type=int, metavar="N", help=text)
    text = "write nothing; estimate size, time and speed"
    add("--dry-run", action="store_true", default=None, help=text)
    _add_output(add, COMPRESSIONS)

    add = command(
        "pack",
        _pack,
        "FOLDER OUT.h5",
        help="write a folder of video files as an HDF5 file",
        description="FOLDER holds one folder per class, with video files, or folders of numbered "
        "pictures, in it; or it is a table (.csv, .tsv, .parquet) with the columns path, label, "
        "start, end, group, split. After a kill, the same command goes on where it was.",
        epilog=EXIT_CODES,
    )
    add("folder", metavar="FOLDER")
    add("out", metavar="OUT.h5")
    add("--frames", dest="num_frames", type=int, metavar="N", help="frames of a clip (default: 16)")
    add(
        "--stride", type=int, metavar="N", help="distance between two frames of a clip (default: 1)"
    )
    text = "size of a frame (default: 112)"
    add("--size", type=size_of, metavar="N|ROWSxCOLUMNS", help=text)
    add("--clips-per-video", type=int, metavar="N", help="clips of each video (default: 1)")
    text = "how pictures get that size: cut, with black bars, or distorted (default: crop)"
    add("--fit", choices=FITS, help=text)
    text = "what becomes of videos shorter than a clip (default: skip)"
    add("--short", choices=SHORT, help=text)
    text = "spread the frames of a clip over the whole video"
    add("--uniform", action="store_true", default=None, help=text)
    text = "frames per second to bring all videos to (default: their own)"
    add("--frame-rate", type=float, metavar="RATE", help=text)
    text = "how labels are stored; none: FOLDER holds videos without classes (default: one-hot)"
    add("--labels", choices=["one-hot", "numbers", "none"], help=text)
    text = "clips, or the whole videos end to end (default: clips)"
    add("--layout", choices=LAYOUTS, help=text)
    text = "videos decoded at the same time (default: one for each processor)"
    add("--jobs", dest="num_jobs", type=int, metavar="N", help=text)
    _add_output(add, BUILT_IN_COMPRESSIONS)

    text = "pack real video, train on it, compare the speed with a plain generator"
    add = command("demo", _demo, help=text)
    add("--folder", default="h5video_demo", help="where to write (default: h5video_demo)")
    add("--small", action="store_true", help="a quick run: fewer clips, fewer epochs")

    for new in commands.choices.values():
        flags = {item.dest: [*item.option_strings, item.metavar][0] for item in new._actions}
        new.set_defaults(flags=flags)
    return parser


def _add_storage_options(add: Callable[..., Any]) -> None:
    text = "for URLs: arguments of fsspec, '{\"anon\": true}', or @FILE.json, a file of them"
    add("--storage-options", type=json_object_of, metavar="JSON", help=text)
    text = "for URLs: how requests are sent, '{\"max_requests\": 8}'; see video_dataset_from_hdf5"
    add("--remote-options", type=json_object_of, metavar="JSON", help=text)


def _add_output(add: Callable[..., Any], compressions: Iterable[str]) -> None:
    """Adds the arguments that `repack` and `pack` share."""
    compressions = [*compressions]
    text = "compression of each sample (default: none, which is read fastest)"
    add("--compression", choices=["none", *compressions], help=text)
    text = "the same, or the format in which each frame of recordings is encoded; jpeg is lossy"
    add("--codec", choices=["none", *CODECS, *compressions], help=text)
    add("--quality", type=int, metavar="N", help="of a JPEG, 1 to 100 (default: 95)")
    text = "encoded frames have one length (default), or take no more than they need"
    add("--rows", choices=ROWS, help=text)
    add("--overwrite", action="store_true", help="replace OUT.h5 if it exists")
    add("--quiet", action="store_true", help="print only errors and what was skipped")
    add("--json", action="store_true", help="print JSON")


# Subcommands


def _inspect(options: argparse.Namespace) -> int:
    report = inspect(
        options.path,
        probe=options.probe,
        read_ahead_bytes=options.read_ahead_bytes,
        html=options.html,
        storage_options=options.storage_options,
        remote_options=options.remote_options,
        allow_external=options.allow_external,
    )
    if options.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        problems = tuple(in_flags(problem, options.flags) for problem in report.problems)
        typed = dataclasses.replace(report, problems=problems)
        print(report_text(typed, is_coloured=_shows_colours()))
    return 1 if report.problems else 0


def _shows_colours() -> bool:
    """Whether stdout is a terminal that shows colours, and nobody minds (https://no-color.org)."""
    is_wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return is_wanted and sys.stdout.isatty()


def _repack(options: argparse.Namespace) -> int:
    arguments = _arguments(options)
    if options.decode == "none":
        arguments["decode"] = None
    report = repack(**arguments, progress=_shows_progress(options))
    skipped = {item.name: in_flags(item.reason, options.flags) for item in report.skipped}
    what = "recording" if any("*" in name for name in report.names) else "sample"
    line = f"{report.path}: {counted(report.num_samples, what)} of {', '.join(report.names)}"
    if report.shards:
        line = line.replace(str(report.path), _pattern_of(report.shards), 1)
        line += f" in {counted(len(report.shards), 'file')}"
    if report.saved is not None:
        line += f", {report.saved}"
    if report.estimate is not None:
        line += f", {_estimate_text(report.estimate)}; nothing was written"
    else:
        new = report.shards or [report.path]
        line += f", {size_text(sum(os.path.getsize(path) for path in new))}"
    _print_report(options, report, skipped, line)
    return 0


def _pattern_of(shards: Sequence[Path]) -> str:
    """Returns what a glob opens them by: `fast-*-of-00004.h5`."""
    first = shards[0]
    return str(first.with_name(re.sub(r"-0+-of-", "-*-of-", first.name)))


def _estimate_text(estimate: Estimate) -> str:
    text = (
        f"would take {size_text(estimate.nbytes)} (now {size_text(estimate.old_nbytes)}) and "
        f"about {estimate.seconds:.2g} s to write"
    )
    if estimate.samples_per_second is None:
        return text
    new = rate_text(estimate.samples_per_second, 0.0, estimate.unit)
    text += f", and would be read at about {new}"
    if estimate.old_samples_per_second is not None:
        old = rate_text(estimate.old_samples_per_second, estimate.old_from_disk, estimate.unit)
        text += f" (now {old})"
    return text


def _pack(options: argparse.Namespace) -> int:
    arguments = _arguments(options)
    if options.labels == "none":
        arguments["labels"] = None
    report = pack(**arguments, progress=_shows_progress(options))
    skipped = {item.path: in_flags(item.reason, options.flags) for item in report.skipped}
    what = "recording" if options.layout == "recordings" else "sample"
    samples, videos = counted(report.num_samples, what), counted(report.num_videos, "video")
    texts = [f"{samples} from {videos}"]
    names = report.class_names
    if len(names) > _MAX_CLASSES:
        texts.append(counted(len(names), "class", "classes"))
    else:
        texts += [f"{n} {name}" for n, name in zip(report.samples_per_class, names, strict=True)]
    texts.append(str(report.saved or size_text(os.path.getsize(report.path))))
    _print_report(options, report, skipped, f"{report.path}: {', '.join(texts)}")
    return 0


def _shows_progress(options: argparse.Namespace) -> bool:
    has_tqdm = importlib.util.find_spec("tqdm") is not None
    return has_tqdm and sys.stderr.isatty() and not (options.quiet or options.json)


def _print_report(
    options: argparse.Namespace, report: Any, skipped: Mapping[str, str], line: str
) -> None:
    """Prints what a tool has written: as JSON, or a line, and one for each thing left out."""
    if options.json:
        fields = {**dataclasses.asdict(report), "path": str(report.path), "skipped": skipped}
        print(json.dumps(fields, indent=2, default=str))
        return
    for name, reason in skipped.items():
        print(f"skipped {name}: it {reason}", file=sys.stderr)
    if not options.quiet:
        print(line)


def _demo(options: argparse.Namespace) -> int:
    return run_demo(options.folder, small=options.small)


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of the Python function that were given on the command line."""
    others = {"run", "flags", "debug", "quiet", "json"}
    found = {
        name: value
        for name, value in vars(options).items()
        if name not in others and value is not None
    }
    if found.get("codec") not in (None, "none", *CODECS):
        codec = found.pop("codec")
        if found.setdefault("compression", codec) != codec:
            raise ArgumentError(
                "`compression` and `codec` must not name two compressions. Received: "
                f"compression={found['compression']!r}, codec={codec!r}"
            )
    for name in ("compression", "codec"):
        if found.get(name) == "none":
            del found[name]
    return found
