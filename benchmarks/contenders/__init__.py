"""Contenders, a file each: its `CONTENDERS` has the names that it adds to the command line."""

from __future__ import annotations

from . import grain_loader, ours, plain, tensorflow_io, tensorstore_copy, tfrecord, torch_loader
from . import zea_reader as zea
from .base import INSTALL as INSTALL
from .base import Contender as Contender
from .base import Job as Job
from .base import SkippedError as SkippedError

CONTENDERS: dict[str, Contender] = {**ours.CONTENDERS, **plain.CONTENDERS, **tfrecord.CONTENDERS}
for module in (torch_loader, grain_loader, zea, tensorstore_copy, tensorflow_io):
    CONTENDERS |= module.CONTENDERS


def parse(name: str) -> tuple[str, int | None]:
    """Splits `NAME` or `NAME:WORKERS`.

    Raises:
        ValueError: There is no such contender, or WORKERS is not a number.
    """
    contender, colon, workers = name.partition(":")
    if contender not in CONTENDERS or (colon and not workers.isdigit()):
        raise ValueError(
            f"a contender is NAME or NAME:WORKERS, with a name of {', '.join(CONTENDERS)}. "
            f"Received: {name!r}"
        )
    return contender, int(workers) if colon else None
