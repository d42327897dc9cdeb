"""What is measured, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .contenders import CONTENDERS, num_processors
from .video_set import SAMPLE_SHAPE

NUM_SAMPLES = 2000

Say = Callable[[str], None]


class UsageError(Exception):
    """What was asked for cannot be measured; the text says why."""


@dataclass(frozen=True)
class Settings:
    """The options of the command line."""

    file: str | None = None
    """A file to measure on, instead of sets that are made."""
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    layouts: tuple[str, ...] = ("contiguous", "chunked", "gzip", "lzf")
    num_samples: int | None = None
    """Samples of a set, or of the file that take part; None: a default."""
    sample_shape: tuple[int, ...] = SAMPLE_SHAPE
    batch_size: int = 32
    num_threads: int = field(default_factory=num_processors)
    rounds: int = 5
    """Timed turns of each contender."""
    cold: bool = False
    accelerator: str = "none"
    """`none`, `emulated:STEP`, or `gpu`."""
    min_seconds: float = 1.0
    max_seconds: float = 5.0
    check_seconds: float = 20.0
    """When the epoch whose samples are checked is broken off."""
    folder: str | None = None
    """Where sets are kept; None: a temporary folder, each set only while it is needed."""
    tfio: str = ".venv-tfio"
    """The environment of the contender `tfio`."""
    train_models: tuple[str, ...] = ("small", "large")
    """What is trained if the accelerator is `gpu`."""
    train_batch_sizes: tuple[int, ...] = (32, 128)
    one_process: bool = False
    """Whether all contenders share this process."""
