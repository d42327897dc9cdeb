"""All that is measured on a GPU, by one command.

    python -m benchmarks.gpu results

Runs the programs below, each in a process of its own, which then has the device's memory for
itself. What they print goes to `results/NAME.txt`, and here when they end; their figures and
pictures go to the same folder. If one fails, the others run all the same.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# The arguments of `python -m`; FOLDER stands for the folder of the results.
PROGRAMS = {
    "feeds": (
        *("benchmarks", "--accelerator", "gpu"),
        *("--layouts", "contiguous", "chunked", "gzip"),
        *("--contenders", "h5video_data", "plain", "plain-prefetch", "read_direct", "tfrecord"),
        # Of the plain generator's batches on chunks, some take 5 s.
        *("--epochs", "3", "--seconds", "1", "3", "5"),
        *("--json", "FOLDER/feeds.json"),
    ),
    "threads": ("benchmarks.scaling", "--only", "threads", "--json", "FOLDER/threads.json"),
    "steps": ("benchmarks.step_profile", "--plot", "FOLDER/steps.png"),
}


def run(programs: Mapping[str, Sequence[str]], folder: Path) -> list[str]:
    """Runs programs one after the other.

    Args:
        programs: By name, the arguments of `python -m`.
        folder: Where the results go; it is made if it is not there.

    Returns:
        The names of those that failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for name, arguments in programs.items():
        command = [part.replace("FOLDER", str(folder)) for part in arguments]
        print(f"python -m {' '.join(command)}", flush=True)
        output = folder / f"{name}.txt"
        begin = time.perf_counter()
        with output.open("w") as file:
            code = subprocess.run(
                [sys.executable, "-m", *command], stdout=file, stderr=subprocess.STDOUT, check=False
            ).returncode
        print(output.read_text(), end="")
        print(f"-- exit code {code} after {time.perf_counter() - begin:.0f} s\n", flush=True)
        if code:
            failed.append(name)
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all; the exit code is 1 if one of them failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="RESULTS", help="where the results go")
    failed = run(PROGRAMS, parser.parse_args(arguments).folder)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
