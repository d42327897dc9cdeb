"""The command `h5video-data`."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import sys
from collections.abc import Sequence

from h5video_data import __version__
from h5video_data.errors import H5VideoError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: What stands behind the command's name; None: the process's own.

    Returns:
        The exit code: 0; 1 if what was asked for failed. A usage error exits with 2.
    """
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As stderr does: names in a file may be of any bytes.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = int(options.run(options))
        sys.stdout.flush()  # a closed pipe shows itself here, not at exit
        return status
    except KeyboardInterrupt:
        if options.debug:
            raise
        print("h5video-data: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; do not complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (H5VideoError, OSError) as error:
        if options.debug:
            raise
        print(f"h5video-data: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    # `--debug` may stand before or behind the sub-command; there, it has no default of its own.
    debug = argparse.ArgumentParser(add_help=False)
    help_text = "show the traceback of an error"
    debug.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=help_text)
    parser = argparse.ArgumentParser(
        prog="h5video-data", description="Train tf.keras models on video in HDF5."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--debug", action="store_true", help=help_text)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    inspect = commands.add_parser(
        "inspect", parents=[debug], help="tell how a file is stored and will be read"
    )
    inspect.add_argument("file", metavar="FILE")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    inspect.set_defaults(run=_inspect)

    repack = commands.add_parser(
        "repack",
        parents=[debug],
        help="write a file anew in the layout that trains fastest",
        description="Several files are joined, in the order given. The files are only read.",
    )
    repack.add_argument("files", metavar="FILE", nargs="+")
    repack.add_argument("out", metavar="OUT.h5")
    repack.add_argument(
        "--x",
        action="append",
        metavar="NAME",
        help="a dataset of samples, to be stored anew; may be given several times (default: X)",
    )
    repack.add_argument(
        "--compression",
        choices=["none", "gzip", "lzf", "zstd", "lz4", "blosc", "bitshuffle"],
        default="none",
        help="of each sample (default: none, which reads fastest)",
    )
    repack.add_argument(
        "--chunks", choices=["sample"], help="a chunk for each sample, compressed or not"
    )
    repack.add_argument("--overwrite", action="store_true", help="replace OUT.h5 if it exists")
    repack.add_argument("--quiet", action="store_true", help="no progress bar")
    repack.set_defaults(run=_repack)

    pack = commands.add_parser(
        "pack",
        parents=[debug],
        help="put a folder of video files into an HDF5 file",
        description="FOLDER holds a folder for each class, with video files in it.",
    )
    pack.add_argument("folder", metavar="FOLDER")
    pack.add_argument("out", metavar="OUT.h5")
    pack.add_argument("--frames", type=int, default=16, help="frames of a clip (default: 16)")
    pack.add_argument(
        "--stride", type=int, default=1, help="distance of a frame to the next (default: 1)"
    )
    pack.add_argument(
        "--size",
        type=_size,
        default=(112, 112),
        metavar="N|ROWSxCOLUMNS",
        help="size of a frame (default: 112)",
    )
    pack.add_argument(
        "--clips-per-video", type=int, default=1, help="clips cut from each video (default: 1)"
    )
    pack.add_argument(
        "--compression",
        choices=["none", "gzip", "lzf"],
        default="none",
        help="of each sample (default: none, which reads fastest)",
    )
    pack.add_argument("--overwrite", action="store_true", help="replace OUT.h5 if it exists")
    pack.add_argument("--quiet", action="store_true", help="no progress bar")
    pack.set_defaults(run=_pack)

    demo = commands.add_parser(
        "demo",
        parents=[debug],
        help="pack real video, train on it, compare the feed with a plain generator",
    )
    demo.add_argument(
        "--folder", default="h5video_demo", help="where to write (default: h5video_demo)"
    )
    demo.add_argument("--small", action="store_true", help="a quick run: fewer clips, fewer epochs")
    demo.set_defaults(run=_demo)
    return parser


def _size(value: str) -> tuple[int, int]:
    """`112` or `112x96`: (rows, columns)."""
    numbers = [int(number) for number in value.lower().split("x")]
    if len(numbers) not in (1, 2) or min(numbers) < 1:
        raise ValueError(value)
    return numbers[0], numbers[-1]


def _inspect(options: argparse.Namespace) -> int:
    from .inspection import inspect

    report = inspect(options.file)
    print(json.dumps(report.to_dict(), indent=2) if options.json else report)
    return 0


def _repack(options: argparse.Namespace) -> int:
    from .repack import repack

    report = repack(
        options.files,
        options.out,
        x=options.x or "X",
        compression=None if options.compression == "none" else options.compression,
        chunks=options.chunks,
        progress=not options.quiet and importlib.util.find_spec("tqdm") is not None,
        overwrite=options.overwrite,
    )
    for skipped in report.skipped:
        print(f"skipped {skipped.name}: it {skipped.reason}", file=sys.stderr)
    print(f"{report.path}: {report.num_samples} samples of {', '.join(report.names)}")
    return 0


def _pack(options: argparse.Namespace) -> int:
    from .pack import pack

    report = pack(
        options.folder,
        options.out,
        num_frames=options.frames,
        stride=options.stride,
        size=options.size,
        clips_per_video=options.clips_per_video,
        compression=None if options.compression == "none" else options.compression,
        progress=not options.quiet,
        overwrite=options.overwrite,
    )
    for skipped in report.skipped:
        print(f"skipped {skipped.path}: it {skipped.reason}", file=sys.stderr)
    print(
        f"{report.path}: {report.num_samples} samples from {report.num_videos} videos, "
        + ", ".join(
            f"{count} {name}"
            for name, count in zip(report.class_names, report.samples_per_class, strict=True)
        )
    )
    return 0


def _demo(options: argparse.Namespace) -> int:
    from .demo import run_demo

    return run_demo(options.folder, small=options.small)
