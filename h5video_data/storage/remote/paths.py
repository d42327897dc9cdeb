"""Paths of objects that are read over a network: URLs that fsspec opens."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from h5video_data.errors import (
    ArgumentError,
    H5VideoError,
    NotHDF5Error,
    UnavailableError,
    VideoFileNotFoundError,
)
from h5video_data.storage.file_identity import FileIdentity, ObjectIdentity, ObjectPath
from h5video_data.storage.os_errors import ObjectChangedError, RequestError, unavailable

from .metadata_blocks import BLOCK_BYTES
from .request_options import RequestOptions, request_options
from .requests import wait_for
from .store import LocalCopies, Store

if TYPE_CHECKING:
    from .connection import Version

# Of several files, the beginnings of so many are requested while one is opened.
FILES_AHEAD = 16

# A letter is the drive of a Windows path.
_SCHEME = "[A-Za-z][A-Za-z0-9+.-]+"
_URL = re.compile(rf"({_SCHEME}::)*{_SCHEME}://", re.ASCII)
_CHAIN = re.compile(rf"^{_SCHEME}::|::{_SCHEME}(://|$)", re.ASCII)

# What stores say of the contents of an object, under the names that their libraries give it. The
# first that is there counts; then the time of the last change.
_VERSIONS = ("generation", "ETag", "etag", "VersionId", "md5Hash", "Content-MD5", "Digest", "ino")
_TIMES = ("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "created")


def is_url(path: object) -> bool:
    """Whether a path is a URL."""
    return isinstance(path, str) and _URL.match(path) is not None


class Url(ObjectPath):
    """A URL or a glob as the user gave it, with the options of its store.

    As a `str` it is what messages show, without credentials: see `RemotePath`.

    Attributes:
        full: The URL, with everything that belongs to it.
        options: Arguments of the file system of fsspec.
        copies: What there is on this machine of its objects.
        requests: How requests are sent.
    """

    full: str
    options: Mapping[str, Any]
    copies: LocalCopies | None
    requests: RequestOptions

    def __new__(
        cls,
        url: str,
        options: Mapping[str, Any] | None,
        copies: LocalCopies | None = None,
        requests: RequestOptions | None = None,
    ) -> Url:
        """Makes one of a URL."""
        path = super().__new__(cls, shown_url(url))
        path.full, path.options, path.copies = str(url), options or {}, copies
        path.requests = request_options(None) if requests is None else requests
        return path

    def __reduce__(self) -> Any:
        return str, (str(self),)  # as `RemotePath`


class RemotePath(ObjectPath):
    """URL of an object: as a `str`, what messages show, without credentials.

    The string has neither the password of a URL nor what follows a "?", of which a hash takes the
    place: a signed URL lets everybody read.

    Attributes:
        store: Where it is read.
        key: Its name there.
    """

    store: Store
    key: str

    def __new__(cls, url: str, store: Store, key: str) -> RemotePath:
        """Makes the path of a URL.

        Args:
            url: The URL, with everything that belongs to it.
            store: Where it is read.
            key: Its name there.
        """
        path = super().__new__(cls, shown_url(url))
        path.store, path.key = store, key
        path._lock, path._known, path._asked_at = threading.Lock(), None, -1.0
        path._is_distrusted, path._asked = False, None
        path._is_one_of_several, path._following, path._start = False, (), None
        return path

    _lock: threading.Lock
    _known: ObjectIdentity | None
    _asked_at: float
    _is_distrusted: bool
    _asked: Callable[[], ObjectIdentity] | None
    _is_one_of_several: bool
    _following: Sequence[RemotePath]
    _start: Future[bytes] | None

    def __reduce__(self) -> Any:
        # Another process gets the name alone: its credentials stay here.
        return str, (str(self),)

    def identity(self) -> ObjectIdentity:
        """Asks the store for the identity that the object has now.

        Of several threads that ask at once, one sends a request after all of them have begun.

        Raises:
            VideoFileNotFoundError: There is no such object.
            NotHDF5Error: It is a directory.
            UnavailableError: The store does not answer, or not with its size.
        """
        begin = time.monotonic()
        if not self._lock.acquire(timeout=300):  # of a thread that a fork has left behind
            self._lock = threading.Lock()
            self._lock.acquire()
        try:
            if self._known is None or self._asked_at < begin:
                asked_at = time.monotonic()
                self._known = self._ask(self.store.connection.info)
                self._asked_at = asked_at
            return self._known
        finally:
            self._lock.release()

    def identity_once(self) -> ObjectIdentity:
        """Returns the identity from when it was asked first, if all reads are compared with it."""
        answer, self._asked = self._asked, None
        if answer is not None and self._known is None:
            self._known = answer()
            return self._known
        known = self._known
        return known if known is not None and self.is_compared(known) else self.identity()

    def take_start(self, identity: FileIdentity) -> None:
        """Waits for the beginning of a file of several, and requests those of the next ones.

        It is kept for HDF5, which reads it first; if that fails, HDF5's own request tells why.
        """
        for path in (self, *self._following):
            path._request_start()
        start, self._start = self._start, None
        if start is not None:
            with contextlib.suppress(VideoFileNotFoundError, RequestError):
                self.store.blocks.put(self.owner(identity), 0, wait_for(start))

    def _request_start(self) -> None:
        copies = self.store.copies
        if not self._is_one_of_several or copies.index is not None:
            return
        self._is_one_of_several = False  # once
        try:
            identity = self.identity_once()
        except H5VideoError:
            return  # which is told when its turn comes
        key = None if copies.cache is None else copies.cache.key_of(self, identity)
        if identity.num_bytes and not (copies.cache and key and copies.cache.has(key, 0)):
            futures = self.begin([0], [min(BLOCK_BYTES, identity.num_bytes)], identity)
            self._start = futures[0] if futures else None

    def owner(self, identity: FileIdentity, otherwise: str = "") -> tuple[str, FileIdentity, str]:
        """Returns what stands for this object in one version, in `store.blocks`.

        Args:
            identity: Its identity.
            otherwise: Stands for it if it has neither a version nor a time of change, which would
                tell what was read before from what is there now.
        """
        has_version = bool(getattr(identity, "version", "") or getattr(identity, "modified", ""))
        return self.key, identity, "" if has_version else otherwise

    def ask_identity(self) -> Callable[[], ObjectIdentity]:
        """Begins to ask for the identity; the result waits for it, and raises as `identity`."""
        try:
            wait = self.store.connection.begin_info(self.key)
        except RequestError:
            return self.identity
        return lambda: self._ask(lambda _: wait())

    def is_compared(self, identity: FileIdentity) -> bool:
        """Whether each read of this identity is compared with it. See `ObjectPath.is_compared`."""
        return bool(self._version_of(identity).tag)

    def _version_of(self, identity: FileIdentity) -> Version:
        """Returns what the reads of an identity are compared with."""
        from .connection import ANY_VERSION, Version

        if self._is_distrusted or not isinstance(identity, ObjectIdentity):
            return ANY_VERSION
        name, _, tag = identity.version.partition(" ")
        # A weak one, W/"...", may be the same for other bytes.
        if name.lower() == "etag" and (not tag.startswith('"') or len(tag) < 3):
            return ANY_VERSION
        if name.lower() != self.store.connection.compared_version:
            return ANY_VERSION
        return Version(tag, identity.num_bytes)

    def identity_here(self) -> ObjectIdentity:
        """Does what `identity` does, in a thread that holds h5py's lock."""
        return self._ask(self.store.connection.info_here)

    def read_here(self, starts: list[int], stops: list[int], identity: FileIdentity) -> list[bytes]:
        """Reads byte ranges as `read` does, in a thread that holds h5py's lock."""
        return self._compared(self.store.connection.read_here, starts, stops, identity, here=True)

    def read(self, starts: list[int], stops: list[int], identity: FileIdentity) -> list[bytes]:
        """Reads byte ranges, many at once: see `connection.Connection.read_ranges`.

        Args:
            starts: The first byte of each range.
            stops: The end of each.
            identity: The identity that the object must have.

        Raises:
            ObjectChangedError: It has another one, and `is_compared`.
            RequestError: They cannot be read.
            VideoFileNotFoundError: The object no longer exists.
        """
        return self._compared(self.store.connection.read_ranges, starts, stops, identity)

    def begin(
        self, starts: list[int], stops: list[int], identity: FileIdentity
    ) -> list[Future[bytes]]:
        """Begins to read byte ranges: see `connection.Connection.begin_ranges`."""
        version = self._version_of(identity)
        return self.store.connection.begin_ranges(self.key, starts, stops, version)

    def _compared(
        self,
        read: Callable[..., list[bytes]],
        starts: list[int],
        stops: list[int],
        identity: FileIdentity,
        *,
        here: bool = False,
    ) -> list[bytes]:
        version = self._version_of(identity)
        try:
            return read(self.key, starts, stops, version)
        except ObjectChangedError:
            if (self.identity_here if here else self.identity)() != identity:
                raise
        # The server says another ETag with the bytes than without: only asking again tells.
        self._is_distrusted = True
        return read(self.key, starts, stops)

    def _ask(self, info_of: Callable[[str], Mapping[str, Any]]) -> ObjectIdentity:
        try:
            info = info_of(self.key)
        except VideoFileNotFoundError:
            raise VideoFileNotFoundError(f"No such file. Received: path={str(self)!r}") from None
        except RequestError as error:
            raise unavailable(f"cannot access {self}", error) from None
        if info.get("type") == "directory":
            raise NotHDF5Error(
                f"{self} is a directory. List its files, or use a glob: "
                f"{self.rstrip('/') + '/*.h5'!r}"
            )
        if info.get("size") is None:
            raise UnavailableError(f"cannot read {self}: the server does not say how large it is")
        version = next((f"{name} {info[name]}" for name in _VERSIONS if info.get(name)), "")
        modified = next((str(info[name]) for name in _TIMES if info.get(name)), "")
        return ObjectIdentity(-1, 0, int(info["size"]), 0, version, modified)


def ask_ahead(paths: Iterable[str]) -> None:
    """Begins to ask for the identities of files that will be opened one after the other."""
    remote = [path for path in paths if isinstance(path, RemotePath)]
    if len(remote) > 1:
        for number, path in enumerate(remote, 1):
            path._is_one_of_several = True
            path._following = remote[number : number + FILES_AHEAD]
            if path._known is None and path._asked is None:
                path._asked = path.ask_identity()


def shown_url(url: str) -> str:
    """Returns a URL without its password, and a hash in place of what follows a "?"."""
    scheme, _, rest = url.partition("://")
    if _CHAIN.search(url):
        return f"{scheme}://..."
    place, slash, name = rest.partition("/")
    user, at, host = place.rpartition("@")
    if at and ":" in user:
        place = f"...@{host}"
    if scheme in ("http", "https"):
        name, mark, query = name.partition("?")
        if mark:
            name += f"#{hashlib.sha256(query.encode()).hexdigest()[:8]}"
    return f"{scheme}://{place}{slash}{name}"


def expand_url(path: str, stores: dict[str, Store]) -> list[str]:
    """Returns the objects that a URL or a glob stands for, sorted.

    Args:
        path: The URL. What exists under that name is no glob.
        stores: The stores of this set, by the beginning of their URLs; gets that of this one.

    Raises:
        VideoFileNotFoundError: A glob matches no object.
        ArgumentError: It is a chain of URLs.
        UnavailableError: The store does not answer.
    """
    if isinstance(path, RemotePath):
        return [path]
    given = path if isinstance(path, Url) else Url(path, None)
    url = given.full
    if _CHAIN.search(url):
        raise ArgumentError(f"`path` must be one URL, not a chain of them. Received: {given!r}")
    scheme, _, rest = url.partition("://")
    place = f"{scheme}://{rest.partition('/')[0]}"
    store = stores.setdefault(place, Store(url, given.options, given.copies, given.requests))
    try:
        connection = store.connection
        system = connection.filesystem
        found_path = RemotePath(url, store, system._strip_protocol(url))
        # In a URL of the web, "?" begins the query.
        magic = found_path.key
        if scheme in ("http", "https"):
            magic = magic.replace("?", "")
        if not glob.has_magic(magic) or _exists(found_path):
            return [found_path]
        found = connection.glob(found_path.key)
    except VideoFileNotFoundError:
        found = []
    except RequestError as error:
        raise unavailable(f"cannot read {given}", error) from None
    if not found:
        raise VideoFileNotFoundError(f"No file matches the glob. Received: path={str(given)!r}")
    return [RemotePath(_full_url(scheme, key), store, key) for key in found]


def _exists(path: RemotePath) -> bool:
    try:
        path.identity()
    except VideoFileNotFoundError:
        return False
    return True


def _full_url(scheme: str, key: str) -> str:
    return key if is_url(key) else f"{scheme}://{key.lstrip('/') if scheme != 'file' else key}"
