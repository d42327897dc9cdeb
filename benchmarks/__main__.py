"""Compares this package with the plain generator, with other feeds, and with the machine.

python -m benchmarks
python -m benchmarks video_data.h5 --accelerator emulated:unet3d-h100 --plot feeds.png
python -m benchmarks --contenders h5video_data plain torch:0 torch:4 --layouts gzip --cold
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .contenders import CONTENDERS, INSTALL, parse
from .facts import UsageError, machine, versions
from .report import draw, table
from .suite import STEPS, measure_layout, step_seconds
from .video_set import NUM_SAMPLES, make_parser, open_sets, positive_integer


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures; returns 1 if a contender failed, 2 if what is asked for cannot be measured."""
    options = _parse(arguments)
    begin = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - begin:6.1f} s] {text}", file=sys.stderr, flush=True)

    report: dict[str, Any] = {
        "command": "python -m benchmarks " + " ".join(sys.argv[1:]),
        "when": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "versions": versions(),
        "settings": {name: str(value) for name, value in vars(options).items()},
        # Processes that wanted to run in the last minute: a busy machine measures nothing.
        "load_average_before": os.getloadavg()[0],
        "layouts": [],
    }
    try:
        for layout, path, folder in open_sets(options):
            report["machine"] = machine(Path(folder))
            report["layouts"].append(measure_layout(layout, path, folder, options, say))
            if options.json:
                options.json.write_text(json.dumps(report, indent=1) + "\n")
    except UsageError as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    print(table(report))
    if options.plot:
        draw(report, options.plot)
    return int(any(row["failed"] for layout in report["layouts"] for row in layout["rows"]))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line, and checks what would otherwise be found out at the end."""
    parser = make_parser("benchmarks", __doc__, ["contiguous", "chunked", "gzip", "lzf"])
    add = parser.add_argument
    add("file", nargs="?", metavar="FILE", help="an HDF5 file with X and Y; default: sets are made")
    names = ", ".join(CONTENDERS)
    add("--contenders", nargs="+", default=[*CONTENDERS], metavar="NAME[:WORKERS]", help=names)
    add("--batch-size", type=positive_integer, default=32, metavar="N")
    add("--epochs", type=positive_integer, default=5, metavar="N", help="timed turns of each")
    add("--cold", action="store_true", help="drop the page cache before each turn")
    step_text = f"STEP: seconds, or {', '.join(STEPS)}"
    add("--accelerator", default="none", metavar="none|emulated:STEP", help=step_text)
    add("--json", type=Path, metavar="OUT", help="write all figures")
    add("--plot", type=Path, metavar="OUT.png", help="draw the report")
    add("--tfio", default=".venv-tfio", metavar="FOLDER", help="the environment of tfio")
    text = "a turn lasts MIN at least and MAX at most, the epoch that is checked CHECK"
    add("--seconds", nargs=3, type=float, default=(1.0, 5.0, 20.0), metavar=("MIN", "MAX", "CHECK"),
        help=text)  # fmt: skip
    options = parser.parse_args(arguments)
    options.contenders = list(dict.fromkeys(options.contenders))
    try:
        for name in options.contenders:
            parse(name)
        step_seconds(options.accelerator, 1)
    except ValueError as error:
        parser.error(str(error))
    for path in filter(None, (options.json, options.plot)):
        if not path.absolute().parent.is_dir():
            parser.error(f"there is no folder for {path}")
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error(f"--plot needs matplotlib: {INSTALL}")
    if not options.file:
        options.samples = options.samples or NUM_SAMPLES
    return options


if __name__ == "__main__":
    # So that what was opened is closed, processes and temporary folders included.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
