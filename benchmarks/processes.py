"""Contenders in processes of their own: they share no threads, no memory and no crash.

`PYTHON -m benchmarks.processes FD` is such a process, maybe of another environment: it answers what
comes through a connection. What it prints is shown if it fails.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .contenders import CONTENDERS, Job, SkippedError
from .facts import versions
from .measure import Feed, Result, Turn

ROOT = Path(__file__).parent.parent

# An answer is given up this much time after it was due.
PATIENCE_SECONDS = 300.0


class ContenderError(Exception):
    """A contender failed: what it raised, or how its process ended."""


class RemoteFeed(Feed):
    """A feed in the process `pid`; `versions` are of the packages there."""

    def __init__(
        self, pid: int, ask: Callable[..., Any], files: list[str], versions: dict[str, str]
    ) -> None:
        super().__init__(files=files)
        self.pid, self.versions, self._ask = pid, versions, ask

    def take_turn(self, turn: Turn) -> Result:
        """Has the turn measured there."""
        seconds = 10 * max(turn.min_seconds, turn.max_seconds) + PATIENCE_SECONDS
        result: Result = self._ask(turn, seconds)
        return result


@contextlib.contextmanager
def open_process(name: str, job: Job, python: str) -> Iterator[RemoteFeed]:
    """Opens a contender in a process of an interpreter, which ends with the context."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # They feed host memory.
        "CUDA_VISIBLE_DEVICES": "",
        "KERAS_BACKEND": "tensorflow",
    }
    here, there = multiprocessing.Pipe()
    with tempfile.TemporaryFile() as log:
        with there:
            process = subprocess.Popen(
                [python, "-m", "benchmarks.processes", str(there.fileno())],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, pass_fds=[there.fileno()],
                env=environment, cwd=ROOT,
                # Its own worker processes can then be ended with it.
                start_new_session=True,
            )  # fmt: skip

        def ask(request: Any, seconds: float) -> Any:
            try:
                here.send(request)
                text = f"no answer within {seconds:.0f} s: its process was ended"
                answer = here.recv() if here.poll(seconds) else ContenderError(text)
            except (OSError, EOFError):
                answer = ContenderError(f"its process ended with code {process.wait()}")
            if isinstance(answer, ContenderError):
                # The child's position in the file is this one's as well: no seek.
                printed = os.pread(log.fileno(), 1 << 20, 0)
                print(printed.decode(errors="replace"), file=sys.stderr, flush=True)
            if isinstance(answer, Exception):
                raise answer
            return answer

        try:
            yield RemoteFeed(process.pid, ask, *ask((name, job), 10 * PATIENCE_SECONDS))
        finally:
            here.close()  # which has it clean up
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def serve(connection: Connection) -> None:
    """Opens a contender, (name, job), and measures its turns, until the connection ends."""
    feed = Feed()
    with contextlib.ExitStack() as stack, contextlib.suppress(EOFError):
        while True:
            request = connection.recv()
            try:
                if isinstance(request, Turn):
                    answer: Any = feed.take_turn(request)
                else:
                    name, job = request
                    feed = stack.enter_context(CONTENDERS[name].open(job))
                    # This package is on the path, but has no part in other environments.
                    others = {k: v for k, v in versions().items() if k != "h5video_data"}
                    answer = feed.files, others
            except SkippedError as error:
                answer = error
            except Exception as error:
                traceback.print_exc()
                answer = ContenderError(f"{type(error).__name__}: {error}")
            connection.send(answer)


if __name__ == "__main__":
    # By its name, for what it sends is of this module.
    from benchmarks import processes

    processes.serve(Connection(int(sys.argv[1])))
