"""Contenders by their names on the command line."""

from __future__ import annotations

from . import copies, ours, plain, readers, workers
from .base import INSTALL as INSTALL
from .base import Contender as Contender
from .base import Job as Job
from .base import SkippedError as SkippedError

CONTENDERS: dict[str, Contender] = {}
for module in (ours, plain, copies, workers, readers):
    CONTENDERS |= module.CONTENDERS


def parse(name: str) -> tuple[str, int | None]:
    """Splits `NAME` or `NAME:WORKERS`; raises ValueError if it is neither."""
    contender, colon, workers = name.partition(":")
    if contender not in CONTENDERS or (colon and not workers.isdigit()):
        raise ValueError(
            f"a contender is NAME or NAME:WORKERS, with a name of {', '.join(CONTENDERS)}. "
            f"Received: {name!r}"
        )
    return contender, int(workers) if colon else None
