"""Runs contenders in this process, which may be one of another environment.

    PYTHON -m benchmarks.worker

Lines of JSON come in, `{"open": ...}`, `{"turn": ...}` or `{"close": ...}`, and a line of JSON goes
out for each. What anything else prints goes to the standard error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .contenders import CONTENDERS, Job
from .machine import versions
from .measure import Feed, Turn, measure_turn


class SkippedError(Exception):
    """A contender cannot take part: why, and what to do about it."""


@contextlib.contextmanager
def open_here(name: str, job: Job) -> Iterator[Feed]:
    """Opens a contender in this process.

    Raises:
        SkippedError: It cannot take part.
    """
    contender = CONTENDERS[name]
    reason = contender.why_not(job)
    if reason is not None:
        raise SkippedError(reason)
    with contender.open_feed(job) as feed:
        yield feed


def serve() -> None:
    """Answers the lines of the standard input."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    stack = contextlib.ExitStack()
    feed = Feed()
    for line in sys.stdin:
        ((what, arguments),) = json.loads(line).items()
        answer: dict[str, Any] = {}
        try:
            if what == "open":
                job = Job(**{**arguments["job"], "folder": Path(arguments["job"]["folder"])})
                feed = stack.enter_context(open_here(arguments["name"], job))
                answer = {"files": feed.files, "versions": versions()}
            elif what == "turn":
                answer = dataclasses.asdict(measure_turn(feed, Turn(**arguments)))
            else:
                stack.close()
        except SkippedError as error:
            answer = {"skipped": str(error)}
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            answer = {"error": text, "traceback": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    stack.close()


if __name__ == "__main__":
    serve()
