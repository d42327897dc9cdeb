"""What reading cost."""

from __future__ import annotations

from dataclasses import dataclass, fields

from .byte_sources import is_slow


@dataclass
class ReadStats:
    """Seconds, summed over the threads, bytes and counts of what was read."""

    read_seconds: float = 0.0
    """Waiting for the operating system, or for HDF5 if that does it all."""
    decode_seconds: float = 0.0
    """Undoing filters."""
    read_bytes: int = 0
    """Stored bytes that were read."""
    num_reads: int = 0
    """Ranges of files, or runs of rows by HDF5, that they were read in."""
    num_chunks: int = 0
    """Chunks that were read and decoded."""

    @property
    def is_slow(self) -> bool:
        """Whether reading waited for a disk, to judge by its speed."""
        return is_slow(self.read_bytes, self.num_reads, self.read_seconds)

    def add(self, other: ReadStats) -> None:
        """Adds the figures of another one."""
        for field in fields(ReadStats):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
