"""What an opened file is read by: a descriptor, or something else with the same methods."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from .file_identity import FileIdentity, check_identity, identity_of
from .system import read_at


class FileHandle(Protocol):
    """An opened file, whatever is at its path by now."""

    def identity(self) -> FileIdentity:
        """Returns its identity."""
        ...

    def check(self, expected: FileIdentity) -> None:
        """Raises an error if it has another identity by now: see `check_identity`."""
        ...

    def read_at(self, target: memoryview, offset: int) -> int:
        """Fills `target`, bytes, from `offset` of the file on; returns how many the file has.

        The caller holds h5py's lock.

        Raises:
            OSError: They cannot be read.
        """
        ...

    def listing_chunks(self, userblock_nbytes: int) -> AbstractContextManager[None]:
        """Returns a context in which HDF5 reads a whole chunk index of this file."""
        ...


@dataclass(frozen=True)
class Descriptor:
    """A file that is open by a descriptor, which belongs to somebody else. See `FileHandle`."""

    path: str
    fd: int

    def identity(self) -> FileIdentity:
        """Returns the identity of the descriptor's file. See `FileHandle.identity`."""
        return identity_of(self.path, self.fd)

    def check(self, expected: FileIdentity) -> None:
        """Compares it. See `FileHandle.check`."""
        check_identity(self.path, expected, self.fd)

    def read_at(self, target: memoryview, offset: int) -> int:
        """Reads by the descriptor. See `FileHandle.read_at`."""
        return read_at(self.fd, target, offset)

    def listing_chunks(self, userblock_nbytes: int) -> AbstractContextManager[None]:
        """Does nothing. See `FileHandle.listing_chunks`."""
        del userblock_nbytes
        return nullcontext()
