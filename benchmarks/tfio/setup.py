"""Makes the environment of the contender `tfio`: some 1.2 GB, some 2 minutes.

python -m benchmarks.tfio.setup [FOLDER]
python -m benchmarks --contenders h5video_data plain tfio [--tfio FOLDER]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# TensorFlow without its GPU libraries: reading happens on the host.
PACKAGES = ("tensorflow-cpu==2.16.2", "tensorflow-io==0.37.1", "setuptools<81")

# Versions that both have wheels for.
PYTHONS = ("3.12", "3.11", "3.10")

# Looking at an op loads the library, which fails where it does not fit.
CHECK = "from tensorflow_io.python.ops import core_ops; core_ops.io_hdf5_readable_read"

NO_PYTHON = 3

TIMEOUT_SECONDS = 1200


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes it; returns 3 if no suitable Python was found, 1 if it could not be made."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tfio.setup")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(".venv-tfio"))
    folder, python = parser.parse_args(arguments).folder, find_python()
    if python is None:
        print(f"no Python of {', '.join(PYTHONS)}, which tensorflow-io has wheels for, was found")
        return NO_PYTHON
    if folder.exists() and not (folder / "pyvenv.cfg").exists():
        # It would be deleted.
        print(f"{folder} exists and is no virtual environment: give another folder")
        return 1
    environment = str(folder / "bin" / "python")
    for step in (
        [python, "-m", "venv", "--clear", str(folder)],
        [environment, "-m", "pip", "install", "--quiet", "--retries", "10", *PACKAGES],
        [environment, "-c", CHECK],
    ):
        print("+ " + " ".join(step), flush=True)
        try:
            quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            subprocess.run(step, check=True, timeout=TIMEOUT_SECONDS, env=quiet)
        except (OSError, subprocess.SubprocessError) as error:
            # Half an environment would be taken for a whole one.
            shutil.rmtree(folder, ignore_errors=True)
            print(f"that failed: {error}")
            return 1
    print(f"made {folder}")
    return 0


def find_python() -> str | None:
    """Returns this interpreter if it is suitable, else one on the path."""
    if f"{sys.version_info.major}.{sys.version_info.minor}" in PYTHONS:
        return sys.executable
    for command in (f"python{version}" for version in PYTHONS):
        # A version manager may have empty shells of commands.
        if shutil.which(command) and not subprocess.run([command, "-V"], check=False).returncode:
            return command
    return None


if __name__ == "__main__":
    sys.exit(main())
