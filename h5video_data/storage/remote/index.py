"""The index of a set: what is read of its files when it is opened, kept in a file.

Of remote files, not what it means, but the bytes themselves, by their places: so HDF5 and the
package do with them what they do without an index, and another release of either reads the same
file. A file has

    "h5video_data index 1" and a line feed, the SHA-256 of what follows, and, compressed by zlib:
    8 bytes, little-endian, the length of a JSON text; that text; the bytes, one piece after another

The text lists the objects: URL, size, version, time of change, and the pieces as (offset, length).
Of files on the disk, it lists notes instead: what was found in them, in a form that `opening`
knows, with arrays whose bytes are behind those of the objects.
Nothing of `storage_options` is in it; but small values, such as labels, are.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import (
    ArgumentError,
    FileChangedError,
    FileFormatError,
    VideoFileNotFoundError,
)
from h5video_data.storage.file_identity import FileIdentity, ObjectIdentity
from h5video_data.storage.os_errors import unavailable

_MAGIC = b"h5video_data index "
_HEAD = _MAGIC + b"1\n"
_DIGEST_NBYTES = hashlib.sha256().digest_size


class Pieces:
    """Bytes of an object at some places.

    Args:
        pieces: Offset and bytes of each; they may overlap.
    """

    def __init__(self, pieces: Iterable[tuple[int, bytes]] = ()) -> None:
        self._starts: list[int] = []
        self._contents: list[bytes] = []
        joined: list[bytearray] = []
        for start, content in sorted(pieces):
            end = self._starts[-1] + len(joined[-1]) if joined else -1
            if start <= end:
                joined[-1] += content[end - start :]
            else:
                self._starts.append(start)
                joined.append(bytearray(content))
        self._contents = [bytes(content) for content in joined]

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return iter(zip(self._starts, self._contents, strict=True))

    def read(self, start: int, stop: int) -> bytes | None:
        """Returns the bytes from `start` to `stop`; None: not all of them are there."""
        number = bisect.bisect_right(self._starts, start) - 1
        if number < 0:
            return None
        skip = start - self._starts[number]
        found = self._contents[number][skip : skip + stop - start]
        return found if len(found) == stop - start else None


class Note(NamedTuple):
    """What was found in a file on the disk."""

    path: str
    text: Any
    """What JSON can hold."""
    arrays: tuple[NDArray[Any], ...]
    """Of one axis, of numbers."""


class _Entry(NamedTuple):
    url: str
    identity: FileIdentity
    pieces: Pieces


class Recording:
    """Collects what HDF5 reads of remote files, and notes of others, to be saved as an index.

    Attributes:
        notes: What was found in files on the disk.
    """

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self._found: dict[tuple[str, FileIdentity], list[tuple[int, bytes]]] = {}

    def add(self, url: str, identity: FileIdentity, start: int, content: bytes) -> None:
        """Adds bytes that were read."""
        self._found.setdefault((url, identity), []).append((start, content))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the index to a file, which appears or is replaced when it is complete.

        Raises:
            ArgumentError: There is nothing to save, or no version of a remote file is known.
            UnavailableError: It cannot be written.
        """
        if not self._found and not self.notes:
            raise ArgumentError(
                "An index is of files that are read over a network, or of recordings on the disk "
                "(`windows`); those of this set are on the disk, and need none: no recordings, or "
                "encoded pictures, or such that lead to other files."
            )
        for url, identity in self._found:
            if not (getattr(identity, "version", "") or getattr(identity, "modified", "")):
                raise ArgumentError(
                    f"The server of {url} says neither its version nor when it was changed, so "
                    "that an index would be taken for that of another object."
                )
        entries, contents = [], []
        for (url, identity), found in sorted(self._found.items(), key=lambda item: item[0][0]):
            assert isinstance(identity, ObjectIdentity)
            pieces = [*Pieces(found)]
            contents += [content for _, content in pieces]
            entries.append(
                {
                    "url": url,
                    "num_bytes": identity.num_bytes,
                    "version": identity.version,
                    "modified": identity.modified,
                    "pieces": [[start, len(content)] for start, content in pieces],
                }
            )
        notes = []
        for note in self.notes:
            contents += [array.tobytes() for array in note.arrays]
            arrays = [[array.dtype.str, len(array)] for array in note.arrays]
            notes.append({"path": note.path, "text": note.text, "arrays": arrays})
        text = json.dumps({"files": entries, "notes": notes}).encode()
        body = zlib.compress(b"".join([struct.pack("<Q", len(text)), text, *contents]))
        name = os.fspath(path)
        partial = f"{name}.{os.getpid()}.partial"
        try:
            try:
                with open(partial, "wb") as file:
                    file.write(_HEAD + hashlib.sha256(body).digest() + body)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, name)
            except BaseException:
                if os.path.exists(partial):
                    os.unlink(partial)
                raise
        except OSError as error:
            raise unavailable(f"cannot write {name}", error) from error


class Index:
    """An index that was saved.

    Attributes:
        path: The file.
        notes: By their paths, what was found in files on the disk.

    Args:
        path: The file.

    Raises:
        VideoFileNotFoundError: There is no such file.
        FileFormatError: It is no index, or damaged, or one of a later release.
        UnavailableError: It cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        try:
            with open(self.path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            raise VideoFileNotFoundError(
                f"No such file. `VideoLoader.save_index` writes one. Received: index={self.path!r}"
            ) from None
        except OSError as error:
            raise unavailable(f"cannot read {self.path}", error) from error
        self._entries: dict[str, list[_Entry]] = {}
        self.notes: dict[str, list[Note]] = {}
        for entry in self._parse(content):
            self._entries.setdefault(_stem(entry.url), []).append(entry)

    def _parse(self, content: bytes) -> list[_Entry]:
        head, body = content[: len(_HEAD)], content[len(_HEAD) + _DIGEST_NBYTES :]
        if head != _HEAD:
            is_other = head.startswith(_MAGIC)
            kind = "an index of another release of h5video_data" if is_other else "no index"
            raise FileFormatError(f"{self.path} is {kind}. Make it again: {self.again}")
        try:
            if hashlib.sha256(body).digest() != content[len(_HEAD) : -len(body) or None]:
                raise ValueError("its checksum is another one")
            body = zlib.decompress(body)
            (length,) = struct.unpack_from("<Q", body)
            text = json.loads(body[8 : 8 + length])
            place, entries = 8 + length, []
            for item in text["files"]:
                pieces = []
                for start, size in item["pieces"]:
                    pieces.append((int(start), body[place : place + size]))
                    place += size
                identity = ObjectIdentity(
                    *(-1, 0, int(item["num_bytes"]), 0),
                    *(str(item["version"]), str(item["modified"])),
                )
                entries.append(_Entry(str(item["url"]), identity, Pieces(pieces)))
            for item in text.get("notes", ()):
                arrays = []
                for dtype, size in item["arrays"]:
                    if size < 0:
                        raise ValueError("an array has a negative length")
                    arrays.append(np.frombuffer(body, np.dtype(dtype), size, place).copy())
                    place += arrays[-1].nbytes
                note = Note(str(item["path"]), item["text"], tuple(arrays))
                self.notes.setdefault(note.path, []).append(note)
            if place != len(body):
                raise ValueError("its end is missing")
        except (ValueError, KeyError, TypeError, struct.error, zlib.error) as error:
            raise FileFormatError(
                f"{self.path} is damaged ({error}). Make it again: {self.again}"
            ) from error
        return entries

    @property
    def again(self) -> str:
        """How to make it again, for messages."""
        return f"loader.save_index({os.path.basename(self.path)!r}), of a loader without `index`"

    def has_any(self, paths: Iterable[str]) -> bool:
        """Whether it is of any of these objects or files."""
        return any(path in self.notes or _stem(path) in self._entries for path in paths)

    def pieces_of(self, url: str, identity: FileIdentity) -> Pieces | None:
        """Returns what it has of an object; None: nothing.

        Raises:
            FileChangedError: It is of another version of the object.
        """
        entries = self._entries.get(_stem(url), [])
        for entry in entries:
            if entry.identity == identity:
                return entry.pieces
        of_this = [entry for entry in entries if entry.url == url]
        if not of_this:
            return None
        raise FileChangedError(
            f"{url} was changed or replaced after {self.path} was made: "
            f"{of_this[0].identity.changes(identity)}. Make the index again: {self.again}"
        )


def _stem(url: str) -> str:
    """Returns a URL without the hash of its query: one that is signed anew has another."""
    return url.partition("#")[0]
