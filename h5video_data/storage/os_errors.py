"""Errors of the operating system: whether the file or the machine is at fault.

`on_error="skip"` skips a sample whose bytes are damaged, but not one that could not be read because
descriptors ran out or a network mount is down: `errno` tells, which HDF5 has in its message.
"""

from __future__ import annotations

import errno
import os
import re

from h5video_data.errors import H5VideoError, ReadError, UnavailableError

# Faults of the bytes; every other number is a fault of the machine. EIO is what a damaged sector of
# a disk gives. (So does a lost network mount, but then `stat`, which follows each read, fails too.)
# EBADMSG and EUCLEAN are checksum errors of file systems, ENODATA and EILSEQ of a medium; EINVAL,
# EOVERFLOW and EFBIG stand for an offset that no file can have.
_DAMAGED_BYTES = (
    *(errno.EIO, errno.EBADMSG, errno.ENODATA, errno.EILSEQ),
    *(errno.EINVAL, errno.EOVERFLOW, errno.EFBIG),
    *([errno.EUCLEAN] if hasattr(errno, "EUCLEAN") else []),  # Linux has it
)
TOO_MANY_OPEN = (errno.EMFILE, errno.ENFILE)


class RequestError(OSError):
    """A server or the network is at fault. The message says how, without credentials."""


class ObjectChangedError(RequestError):
    """An object of a store is not the version that was asked for."""


def error_number(error: BaseException | None) -> int | None:
    """Returns the `errno` of an error, also of HDF5's, or None if it has none."""
    number = getattr(error, "errno", None)
    if number is None and (found := re.search(r"\berrno = (\d+)", str(error))):
        number = int(found[1])
    return number or None


def unavailable(what: str, error: BaseException) -> UnavailableError:
    """Returns the error to raise if the machine is at fault; `what` is as "cannot open a.h5"."""
    number = error_number(error)
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return UnavailableError(f"{what}: not enough memory ({error})")
    reason = os.strerror(number) if number else str(error)
    if reason[1:2].islower():  # not of "RPC ..." and the like
        reason = reason[0].lower() + reason[1:]
    hint = ". Raise the limit of open files with `ulimit -n`" if number in TOO_MANY_OPEN else ""
    return UnavailableError(f"{what}: {reason}{hint}")


def read_failure(location: str, error: BaseException) -> H5VideoError:
    """Returns the error to raise if a read failed: an UnavailableError if the machine is at fault.

    Args:
        location: What was read: "a.h5: dataset '/X', sample 3".
        error: Why it failed.
    """
    number = error_number(error)
    is_unavailable = isinstance(error, (MemoryError, RequestError))
    if is_unavailable or (number and number not in _DAMAGED_BYTES):
        return unavailable(f"cannot read {location}", error)
    return ReadError(f"{location}: {error}")
