"""Where objects of an object store or a web server are read, through fsspec.

fsspec is imported when the first URL is opened, and asyncio with it.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h5video_data.errors import MissingDependencyError
from h5video_data.storage.os_errors import RequestError

from .disk_cache import DiskCache
from .index import Index, Recording
from .metadata_blocks import MetadataBlocks
from .reads import is_gcs
from .request_options import DEFAULTS, RequestOptions

if TYPE_CHECKING:
    from .connection import Connection


@dataclass(frozen=True, eq=False)
class LocalCopies:
    """What there is on this machine of remote files, to be read in place of requests."""

    index: Index | None = None
    cache: DiskCache | None = None
    recording: Recording | None = None
    """Collects what HDF5 reads, for an index."""


class Store:
    """A file system of fsspec with its options, one for each process.

    Nothing of the options is ever shown: they may hold credentials.

    Args:
        url: A URL on it.
        options: Arguments of the file system of fsspec.
        copies: What there is of its objects on this machine.
        requests: How requests are sent.

    Attributes:
        options: As given.
        copies: As given.
        requests: As given.
        blocks: What HDF5 has read of its objects.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any],
        copies: LocalCopies | None = None,
        requests: RequestOptions = DEFAULTS,
    ) -> None:
        self._url = url
        self.copies = copies or LocalCopies()
        self.requests = requests
        self.options = dict(options)
        self.blocks = MetadataBlocks()
        self._pid = -1
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def __repr__(self) -> str:
        return f"<Store: {self._url.partition('://')[0]}>"

    @property
    def connection(self) -> Connection:
        """The connection of this process: a forked child has its own."""
        connection = self._connection
        if connection is None or self._pid != os.getpid():
            if self._pid not in (-1, os.getpid()):
                self._lock = threading.Lock()  # another thread of the parent may have held it
            with self._lock:
                if self._connection is None or self._pid != os.getpid():
                    from .connection import Connection

                    most = self.requests.max_requests
                    self._connection = Connection(
                        functools.partial(open_filesystem, self._url, self.options, most),
                        self.requests,
                    )
                    self._pid = os.getpid()
                connection = self._connection
        return connection


async def _client_of_many(**options: Any) -> Any:
    """Returns a client of aiohttp that has as many connections as there are requests at once."""
    import aiohttp

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), **options)


def open_filesystem(url: str, options: Mapping[str, Any], max_requests: int, **more: Any) -> Any:
    """Returns the file system of fsspec for a URL.

    Args:
        url: The URL.
        options: Arguments of the file system.
        max_requests: How many connections it may need at once.
        **more: Others.

    Raises:
        MissingDependencyError: fsspec, or what it needs for this kind of URL, is not installed.
        RequestError: fsspec does not take these options.
    """
    protocol = url.partition("://")[0]
    try:
        import fsspec.core
    except ImportError:
        raise MissingDependencyError(
            f"Reading {protocol}:// needs fsspec: pip install h5video_data[remote]"
        ) from None
    own: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False, **more}
    if protocol in ("s3", "s3a"):  # or no more than 10 at once
        given = options.get("config_kwargs") or {}
        own["config_kwargs"] = {"max_pool_connections": max_requests, **given}
    if protocol in ("http", "https") and "connector" not in (options.get("client_kwargs") or {}):
        own["get_client"] = options.get("get_client", _client_of_many)  # or no more than 100
    try:
        system = fsspec.core.url_to_fs(url, **{**options, **own})[0]
        if hasattr(system, "_call_s3"):
            system.retries = 1  # what fails is sent again by `requests`, after its pauses
        if is_gcs(system) and (once := getattr(type(system)._request, "__wrapped__", None)):
            system._request = functools.partial(once, weakref.proxy(system))  # likewise
        return system
    except ImportError as error:
        name = f": {error.name}" if error.name else ""
        raise MissingDependencyError(
            f"Reading {protocol}:// needs another package{name}. pip install h5video_data[remote] "
            "has those for s3:// and https://, pip install gcsfs that for gs://"
        ) from None
    except Exception as error:
        names = ", ".join(map(repr, options)) or "none"
        raise RequestError(
            f"fsspec cannot open a {protocol}:// URL ({type(error).__name__}); options given in "
            f"`storage_options`: {names}"
        ) from None
