"""Contenders in processes of their own: they share no threads, no memory and no crash."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from .contenders import CONTENDERS, Job, parse
from .measure import Feed, Result, Turn
from .settings import Settings
from .worker import SkippedError, open_here

ROOT = Path(__file__).parent.parent

# An answer that has not come after this much more time than was asked for will not come.
PATIENCE_SECONDS = 300.0


class ContenderError(Exception):
    """A contender failed: what it raised, or how its process ended."""


class Opener:
    """Opens contenders, each in a process of its own, which stays from layout to layout."""

    def __init__(self, settings: Settings, folder: Path, stack: contextlib.ExitStack) -> None:
        """Remembers where processes are to run; none is started yet."""
        self._settings = settings
        self._folder = folder
        self._stack = stack
        self._workers: dict[str, Worker] = {}

    def open_feed(self, entry: str, job: Job) -> contextlib.AbstractContextManager[Feed]:
        """Opens a contender for a job.

        Args:
            entry: `NAME` or `NAME:WORKERS`.
            job: The job.

        Raises:
            SkippedError: It cannot take part, now or when the context is entered.
        """
        name, workers = parse(entry)
        job = dataclasses.replace(job, workers=workers)
        python = sys.executable
        if CONTENDERS[name].has_environment:
            python = str(Path(self._settings.tfio).absolute() / "bin" / "python")
            if not Path(python).exists():
                raise SkippedError(
                    "it needs an environment of its own, which this makes: "
                    f"python -m benchmarks.tfio.setup {self._settings.tfio}"
                )
        elif self._settings.one_process:
            return open_here(name, job)
        if entry not in self._workers:
            log = self._folder / f"{entry.replace(':', '_')}.log"
            self._workers[entry] = self._stack.enter_context(Worker(python, log))
        return self._workers[entry].open_feed(name, job)

    def forget(self, entry: str) -> None:
        """Has a contender that failed start in a new process when it is opened again."""
        self._workers.pop(entry, None)


class Worker:
    """The other side of such a process: opens a contender in it, and gives it its turns."""

    def __init__(self, python: str, log: Path) -> None:
        """Starts the process.

        Args:
            python: The interpreter.
            log: Where what it prints goes.
        """
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # They feed host memory: an accelerator's is left to the training.
            "CUDA_VISIBLE_DEVICES": "",
            "KERAS_BACKEND": "tensorflow",
        }
        self._log = log
        self._stderr = log.open("ab")
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment,
            cwd=ROOT,
            # Its own worker processes can then be ended with it.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process, which leads a group of its own."""
        return self._process.pid

    @contextlib.contextmanager
    def open_feed(self, name: str, job: Job) -> Iterator[Feed]:
        """Opens a contender; its feed takes its turns in the process.

        Raises:
            SkippedError: It cannot take part.
            ContenderError: It failed.
        """
        fields = {**dataclasses.asdict(job), "folder": str(job.folder)}
        answer = self._ask("open", {"name": name, "job": fields}, 10 * PATIENCE_SECONDS)
        try:
            yield _RemoteFeed(self, answer["files"], answer["versions"])
        finally:
            with contextlib.suppress(ContenderError):
                self._ask("close", None, PATIENCE_SECONDS)

    def turn(self, turn: Turn) -> Result:
        """Has the open contender take its turn."""
        seconds = 10 * max(turn.min_seconds, turn.max_seconds) + PATIENCE_SECONDS
        return Result(**self._ask("turn", dataclasses.asdict(turn), seconds))

    def _ask(self, what: str, arguments: Any, seconds: float) -> dict[str, Any]:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({what: arguments}).encode() + b"\n")
            process.stdin.flush()
        except OSError:  # it has ended; how, is told below
            pass
        line = _read_line(process.stdout, seconds)
        if line is None:
            self._end()
            raise ContenderError(f"no answer within {seconds:.0f} s: its process was ended")
        if not line:
            code = process.wait()
            lines = self._log.read_text(errors="replace").strip().splitlines() or ["nothing"]
            raise ContenderError(f"its process ended with code {code}; its last words: {lines[-1]}")
        answer: dict[str, Any] = json.loads(line)
        if "skipped" in answer:
            raise SkippedError(answer["skipped"])
        if "error" in answer:
            with self._log.open("a") as log:
                log.write(answer["traceback"])
            raise ContenderError(answer["error"])
        return answer

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._end()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._stderr.close()


class _RemoteFeed(Feed):
    def __init__(self, worker: Worker, files: list[str], versions: dict[str, str]) -> None:
        super().__init__(files=files)
        self.versions = versions
        self._worker = worker

    def take_turn(self, turn: Turn) -> Result:
        return self._worker.turn(turn)


def _read_line(stream: IO[bytes], seconds: float) -> bytes | None:
    """A line; nothing at the end of the stream; None if it does not come in time."""
    # The other side writes a whole line at once, and only when it is asked.
    ready, _, _ = select.select([stream], [], [], seconds)
    return stream.readline() if ready else None
