"""Errors of reading byte ranges."""

from __future__ import annotations


class RangeError(Exception):
    """A range of a file cannot be read; `__cause__` is the reason.

    Args:
        number: The position of the range among those that were asked for.
        num_read: How many bytes of it were read.
    """

    def __init__(self, number: int, num_read: int = 0) -> None:
        super().__init__(number, num_read)
        self.number = number
        self.num_read = num_read


def cut_short(offset: int, missing: int, file_nbytes: int) -> EOFError:
    """Returns the reason why the end of a range is not in a file.

    Args:
        offset: Where the range begins.
        missing: How many bytes are not there.
        file_nbytes: How many the file had.
    """
    if offset >= file_nbytes:  # see `chunk_table.read_chunk_table`
        return EOFError("where it lies in the file, or its stored size, is damaged")
    return EOFError(f"the file ends {missing} bytes too early")
