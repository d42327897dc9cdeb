"""One byte range of an object, of a certain version: what a server says of it is compared."""

from __future__ import annotations

import re
from typing import Any, Literal

from h5video_data.storage.os_errors import ObjectChangedError

# "bytes 0-99/1234"
_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")


def compared_version(system: Any) -> Literal["etag", "generation", ""]:
    """Returns by what `read_range` compares versions in this file system of fsspec; "": it cannot.

    A generation is Google's number of the contents that an object has; its ETag is another one
    when only its metadata change.
    """
    if is_gcs(system):
        return "generation"
    return "etag" if _is_s3(system) or _is_http(system) else ""


async def read_range(
    system: Any, key: str, start: int, stop: int, version: str = "", num_bytes: int | None = None
) -> bytes:
    """Reads a byte range.

    With a `version`, the server is asked for that one alone (`If-Match`), and its answer is
    compared: not every server knows the condition. fsspec's `cat_file` and `cat_ranges` can do
    neither.

    Args:
        system: An asynchronous file system of fsspec.
        key: The object, as the file system names it.
        start: First byte of the range.
        stop: End of the range.
        version: What it must have of `compared_version`, a strong ETag or a generation; "": any.
        num_bytes: The size that the object must have, with an ETag.

    Raises:
        ObjectChangedError: It is another version.
        Exception: Whatever fsspec and the libraries behind it raise.
    """
    if not version:
        found: bytes = await system._cat_file(key, start=start, end=stop)
        return found
    span = f"bytes={start}-{stop - 1}"
    if is_gcs(system):
        return await _read_gcs(system, key, span, version)
    if _is_s3(system):
        return await _read_s3(system, key, span, version)
    options = dict(system.kwargs)
    headers = {"If-Match": version, "Accept-Encoding": "identity", **(options.pop("headers", {}))}
    headers["Range"] = span
    session = await system.set_session()
    async with session.get(system.encode_url(key), headers=headers, **options) as response:
        body: bytes = await response.read()
        system._raise_not_found_for_status(response, key)
        total = _TOTAL.fullmatch(response.headers.get("Content-Range", ""))
        if total is not None and int(total[1]) != num_bytes:
            raise ObjectChangedError(f"it has {total[1]} bytes now")
        _compare("ETag", version, response.headers.get("ETag"))
        return body


async def _read_gcs(system: Any, key: str, span: str, generation: str) -> bytes:
    body: bytes
    try:
        url = system.url(key)
        if "&generation=" not in url:
            url += f"&generation={generation}"
        headers, body = await system._call("GET", url, headers={"Range": span})
    except FileNotFoundError:
        raise ObjectChangedError(f"there is no generation {generation} any more") from None
    _compare("generation", generation, headers.get("X-Goog-Generation"))
    return body


async def _read_s3(system: Any, key: str, span: str, etag: str) -> bytes:
    bucket, name, version = system.split_path(key)
    more = {**getattr(system, "req_kw", {}), **({"VersionId": version} if version else {})}
    response = await system._call_s3(
        "get_object", Bucket=bucket, Key=name, Range=span, IfMatch=etag, **more
    )
    try:
        _compare("ETag", etag, response.get("ETag"))
        body: bytes = await response["Body"].read()
    finally:
        response["Body"].close()
    return body


def _compare(kind: str, expected: str, found: str | None) -> None:
    if found != expected:
        raise ObjectChangedError(f"its {kind} is {found} now")


def is_gcs(system: Any) -> bool:
    """Whether a file system of fsspec is of Google Cloud Storage."""
    return type(system).__module__.startswith("gcsfs") and hasattr(system, "_call")


def _is_s3(system: Any) -> bool:
    return hasattr(system, "_call_s3") and hasattr(system, "split_path")


def _is_http(system: Any) -> bool:
    names = ("set_session", "encode_url", "_raise_not_found_for_status", "kwargs")
    return all(hasattr(system, name) for name in names)
