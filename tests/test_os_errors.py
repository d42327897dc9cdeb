"""Errors of the operating system: of the bytes, or of the machine."""

import errno
import os

import pytest

from h5video_data import VideoLoader
from h5video_data.errors import (
    ReadError,
    UnavailableError,
)
from h5video_data.reading import byte_sources
from h5video_data.storage.os_errors import read_failure, unavailable
from h5video_data.testing import write_video_file

ONE = (1, 4, 3, 8, 8)


MANY = (4, 4, 3, 8, 8)


OF_THE_BYTES = ["EIO", "EBADMSG", "EUCLEAN", "ENODATA", "EILSEQ", "EINVAL", "EOVERFLOW", "EFBIG"]


OF_THE_MACHINE = [
    *("EMFILE", "ENFILE", "ENOMEM", "EACCES", "EPERM", "ESTALE"),
    *("ETIMEDOUT", "ENOTCONN", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH", "ENETUNREACH"),
    *("ENETDOWN", "EAGAIN", "ENODEV", "ENXIO", "EBADF", "EREMOTEIO"),
]


@pytest.mark.parametrize("name", OF_THE_BYTES + OF_THE_MACHINE)
def test_whose_fault_an_error_of_the_system_is(name):
    number = getattr(errno, name)
    expected = ReadError if name in OF_THE_BYTES else UnavailableError
    for error in (
        OSError(number, os.strerror(number)),
        OSError(f"Can't read (file read failed: errno = {number}, error message = 'something')"),
    ):
        assert type(read_failure("a.h5: sample 3", error)) is expected
        assert "a.h5: sample 3" in str(read_failure("a.h5: sample 3", error))


def test_whose_fault_other_errors_are():
    assert type(read_failure("a.h5", ValueError("corrupt"))) is ReadError
    assert type(read_failure("a.h5", OSError("Can't read (inflate() failed)"))) is ReadError
    error = read_failure("a.h5", MemoryError("Unable to allocate 3 TiB"))
    assert type(error) is UnavailableError
    assert str(error) == "cannot read a.h5: not enough memory (Unable to allocate 3 TiB)"
    error = unavailable("cannot open a.h5", OSError(errno.EMFILE, "Too many open files"))
    assert str(error) == (
        "cannot open a.h5: too many open files. Raise the limit of open files with `ulimit -n`"
    )


FAULTS = {
    "EIO": (OSError(errno.EIO, "Input/output error"), True),
    "ESTALE": (OSError(errno.ESTALE, "Stale file handle"), False),
    "ETIMEDOUT": (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), False),
    "memory": (MemoryError("Unable to allocate"), False),
}


@pytest.mark.parametrize("chunks", [None, ONE, MANY], ids=["contiguous", "one", "many"])
@pytest.mark.parametrize(("fault", "is_skipped"), FAULTS.values(), ids=FAULTS)
def test_only_a_fault_of_the_bytes_is_skipped(tmp_path, monkeypatch, fault, is_skipped, chunks):
    options = {} if chunks is None else {"chunks": chunks, "compression": "gzip"}
    path = write_video_file(tmp_path / "a.h5", num_samples=12, **options)
    bad, read = [], byte_sources.LocalFile._read

    def fail_once(self, target, offset):
        if not bad or offset == bad[0]:
            bad[:] = [offset]
            raise fault
        return read(self, target, offset)

    monkeypatch.setattr(byte_sources.LocalFile, "_read", fail_once)
    monkeypatch.setattr(byte_sources.ThreadQueues, "queue", None)
    loader = VideoLoader(path, shuffle=False, on_error="skip", batch_size=4, num_threads=1)
    if is_skipped:
        found = sum(len(x) for x, _ in loader)
        assert found == 12 - len(loader.skipped)
        assert 1 <= len(loader.skipped) <= 4
    else:
        with pytest.raises(UnavailableError, match=r"cannot read .*a.h5: dataset '/X', sample 0: "):
            list(loader)
