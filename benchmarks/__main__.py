"""Compares this package with the plain generator, with other feeds, and with the machine.

python -m benchmarks
python -m benchmarks video_data.h5 --accelerator emulated:unet3d-h100 --plot feeds.png
python -m benchmarks --contenders h5video_data plain torch:0 torch:4 --layouts gzip --cold
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .contenders import CONTENDERS, INSTALL, num_processors, parse
from .models import MODELS
from .report import draw, table, write_json
from .settings import NUM_SAMPLES, Settings, UsageError
from .suite import has_failures, run
from .utilisation import PRESETS, step_seconds
from .video_set import LAYOUTS, SAMPLE_SHAPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the suite.

    Returns:
        The exit code: 0; 1 if a contender failed; 2 if what was asked for cannot be measured.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        settings = _settings(options)
    except ValueError as error:
        parser.error(str(error))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    begin = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - begin:6.1f} s] {text}", file=sys.stderr, flush=True)

    def save(report: dict[str, Any]) -> None:
        if options.json:
            write_json(report, options.json)

    where = options.temporary and os.path.abspath(options.temporary)
    if where:
        Path(where).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=where) as temporary:
        folder = Path(settings.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            report = run(settings, folder, say, save)
        except UsageError as error:
            print(f"python -m benchmarks: {error}", file=sys.stderr)
            return 2
    print(table(report))
    save(report)
    if options.plot:
        draw(report, options.plot)
    return int(has_failures(report))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("file", nargs="?", metavar="FILE", help="an HDF5 file with X and Y; default: sets are made")
    names = ", ".join(CONTENDERS)
    add("--contenders", nargs="+", default=[*CONTENDERS], metavar="NAME[:WORKERS]", help=names)
    add("--layouts", nargs="+", default=[*Settings.layouts], choices=[*LAYOUTS, "all"])
    add("--samples", type=int, help=f"default: {NUM_SAMPLES}; of a FILE, up to 4 GiB")
    shape_text = ("FRAMES", "CHANNELS", "ROWS", "COLUMNS")
    add("--sample-shape", nargs=4, type=int, default=SAMPLE_SHAPE, metavar=shape_text)
    add("--batch-size", type=int, default=Settings.batch_size)
    add("--threads", type=int, default=num_processors(), help="of h5video_data and of the limits")
    epochs_text = "timed turns of each contender, an epoch or more in each"
    add("--epochs", type=int, default=Settings.rounds, metavar="N", help=epochs_text)
    add("--cold", action="store_true", help="drop the page cache before each turn")
    steps_text = f"STEP: seconds, or {', '.join(PRESETS)}"
    add("--accelerator", default="none", metavar="none|emulated:STEP|gpu", help=steps_text)
    add("--json", metavar="OUT", help="write the report, with every run")
    add("--plot", metavar="OUT.png", help="draw the report")
    add("--folder", help="make the sets here and keep them; default: a temporary folder")
    add("--temporary", metavar="FOLDER", help="make the temporary folder here, on this disk")
    add("--tfio", default=Settings.tfio, metavar="FOLDER", help="the environment of tfio")
    seconds_text = "a turn lasts MIN at least and MAX at most, the epoch that is checked CHECK"
    seconds = (Settings.min_seconds, Settings.max_seconds, Settings.check_seconds)
    add("--seconds", nargs=3, type=float, default=seconds, metavar=("MIN", "MAX", "CHECK"),
        help=seconds_text)  # fmt: skip
    models_text = "what a gpu trains"
    add("--models", nargs="+", default=[*Settings.train_models], choices=MODELS, help=models_text)
    add("--train-batches", nargs="+", type=int, default=[*Settings.train_batch_sizes])
    add("--one-process", action="store_true", help="run all contenders in this process")
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    """Checks the options.

    Raises:
        ValueError: One of them makes no sense.
    """
    for name in options.contenders:
        parse(name)
    kind, _, step = options.accelerator.partition(":")
    if kind == "emulated":
        step_seconds(step, 1)
    elif options.accelerator not in ("none", "gpu"):
        raise ValueError(
            f"--accelerator is none, emulated:STEP or gpu. Received: {options.accelerator!r}"
        )
    for name in ("samples", "batch_size", "threads", "epochs", "sample_shape", "train_batches"):
        given = getattr(options, name)
        if given is not None and np.min(given) < 1:
            raise ValueError(f"--{name.replace('_', '-')} is 1 or more. Received: {given}")
    # It would be a pity to find these out at the end.
    for name in (options.json, options.plot):
        if name and not Path(name).absolute().parent.is_dir():
            raise ValueError(f"there is no folder for {name}")
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        raise ValueError(f"--plot needs matplotlib: {INSTALL}")
    least, most, check = options.seconds
    return Settings(
        # Other processes have other working folders.
        file=options.file and os.path.abspath(options.file),
        contenders=tuple(dict.fromkeys(options.contenders)),
        layouts=tuple(LAYOUTS if "all" in options.layouts else dict.fromkeys(options.layouts)),
        num_samples=options.samples,
        sample_shape=tuple(options.sample_shape),
        batch_size=options.batch_size,
        num_threads=options.threads,
        rounds=options.epochs,
        cold=options.cold,
        accelerator=options.accelerator,
        min_seconds=least,
        max_seconds=most,
        check_seconds=check,
        folder=options.folder and os.path.abspath(options.folder),
        tfio=options.tfio,
        train_models=tuple(options.models),
        train_batch_sizes=tuple(options.train_batches),
        one_process=options.one_process,
    )


if __name__ == "__main__":
    # So that what was opened is closed, processes and temporary folders among it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
