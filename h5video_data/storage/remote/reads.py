"""One byte range of an object, of a certain version: what a server says of it is compared."""

from __future__ import annotations

import re
from typing import Any

from h5video_data.storage.os_errors import ObjectChangedError

# "bytes 0-99/1234"
_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")


def compares_versions(system: Any) -> bool:
    """Whether `read_range` compares versions in this file system of fsspec."""
    return _is_s3(system) or _is_http(system)


async def read_range(
    system: Any, key: str, start: int, stop: int, etag: str = "", num_bytes: int | None = None
) -> bytes:
    """Reads a byte range.

    With an `etag`, the server is asked for that version alone (`If-Match`), and its answer is
    compared: not every server knows the condition.

    Args:
        system: An asynchronous file system of fsspec.
        key: The object, as the file system names it.
        start: First byte of the range.
        stop: End of the range.
        etag: The version that it must have, a strong ETag; "": any.
        num_bytes: The size that the object must have, with an `etag`.

    Raises:
        ObjectChangedError: It is another version.
        Exception: Whatever fsspec and the libraries behind it raise.
    """
    if not etag:
        found: bytes = await system._cat_file(key, start=start, end=stop)
        return found
    if _is_s3(system):
        return await _read_s3(system, key, f"bytes={start}-{stop - 1}", etag)
    options = dict(system.kwargs)
    headers = {"If-Match": etag, "Accept-Encoding": "identity", **(options.pop("headers", {}))}
    headers["Range"] = f"bytes={start}-{stop - 1}"
    session = await system.set_session()
    async with session.get(system.encode_url(key), headers=headers, **options) as response:
        body: bytes = await response.read()
        system._raise_not_found_for_status(response, key)
        total = _TOTAL.fullmatch(response.headers.get("Content-Range", ""))
        if total is not None and int(total[1]) != num_bytes:
            raise ObjectChangedError(f"it has {total[1]} bytes now")
        _compare(etag, response.headers.get("ETag"))
        return body


async def _read_s3(system: Any, key: str, span: str, etag: str) -> bytes:
    bucket, name, version = system.split_path(key)
    more = {**getattr(system, "req_kw", {}), **({"VersionId": version} if version else {})}
    response = await system._call_s3(
        "get_object", Bucket=bucket, Key=name, Range=span, IfMatch=etag, **more
    )
    try:
        _compare(etag, response.get("ETag"))
        body: bytes = await response["Body"].read()
    finally:
        response["Body"].close()
    return body


def _compare(expected: str, found: str | None) -> None:
    if found != expected:
        raise ObjectChangedError(f"its ETag is {found} now")


def _is_s3(system: Any) -> bool:
    return hasattr(system, "_call_s3") and hasattr(system, "split_path")


def _is_http(system: Any) -> bool:
    names = ("set_session", "encode_url", "_raise_not_found_for_status", "kwargs")
    return all(hasattr(system, name) for name in names)
