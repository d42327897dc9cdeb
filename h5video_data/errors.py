"""Every error that h5video_data raises on purpose.

    H5VideoError
    ├── ArgumentError                   (ValueError)         an argument makes no sense
    ├── VideoFileNotFoundError          (FileNotFoundError)  no such file, or a glob without a match
    ├── NotHDF5Error                    (OSError)            not an HDF5 file, or a truncated one
    ├── FileInUseError                  (OSError)            open for writing elsewhere
    ├── DatasetNotFoundError            (KeyError)           no dataset of that name in the file
    ├── FileFormatError                 (ValueError)         shapes, lengths, sample_count
    │   └── UnsupportedDtypeError       (TypeError)          strings, references, compounds ...
    ├── MissingFilterError              (OSError)            the file needs an HDF5 filter plugin
    ├── MissingDependencyError          (ImportError)        an optional package is not installed
    ├── ReadError                       (OSError)            a sample could not be read or decoded
    │   └── FileChangedError                                 the file is not the one that was opened
    ├── UnavailableError                (OSError)            the machine lacks what it takes
    ├── SamplerError                    (ValueError)         a sampler broke its promise
    ├── StateError                      (ValueError)         a saved position of other data
    ├── ClosedError                     (RuntimeError)       the loader was closed
    ├── PackingError                    (ValueError, OSError) no video could be packed, or written
    └── RepackingError                  (OSError)            a file could not be written anew

Catch `H5VideoError` for all of them. Errors that cross TensorFlow come out as a
`tf.errors.OpError`, which carries the original's name, message and traceback as text.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "ClosedError",
    "DatasetNotFoundError",
    "FileChangedError",
    "FileFormatError",
    "FileInUseError",
    "H5VideoError",
    "MissingDependencyError",
    "MissingFilterError",
    "NotHDF5Error",
    "PackingError",
    "ReadError",
    "RepackingError",
    "SamplerError",
    "StateError",
    "UnavailableError",
    "UnsupportedDtypeError",
    "VideoFileNotFoundError",
]


class H5VideoError(Exception):
    """The root of all errors of this package."""


class ArgumentError(H5VideoError, ValueError):
    """An argument, or a combination of arguments, makes no sense."""


class VideoFileNotFoundError(H5VideoError, FileNotFoundError):
    """A file does not exist, or a glob matches none."""


class NotHDF5Error(H5VideoError, OSError):
    """A file is not an HDF5 file, or only the beginning of one."""


class FileInUseError(H5VideoError, OSError):
    """A file is open for writing elsewhere."""


class DatasetNotFoundError(H5VideoError, KeyError):
    """A file has no dataset of the name asked for."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which would put the message in quotes.
        return str(self.args[0]) if self.args else ""


class FileFormatError(H5VideoError, ValueError):
    """The datasets of a file do not fit together: shapes, lengths, or `sample_count`."""


class UnsupportedDtypeError(FileFormatError, TypeError):
    """A dataset's dtype has no counterpart in a TensorFlow tensor of numbers."""


class MissingFilterError(H5VideoError, OSError):
    """A dataset was written with an HDF5 filter that is not installed here."""


class MissingDependencyError(H5VideoError, ImportError):
    """An optional package, which only some tools need, is not installed."""


class ReadError(H5VideoError, OSError):
    """A sample could not be read or decoded: truncated, corrupt, or the disk failed."""


class FileChangedError(ReadError):
    """A file is not the one that was opened: its size, time of change or inode differ."""


class UnavailableError(H5VideoError, OSError):
    """A file could not be read, and the machine is at fault, not the file.

    Too many open files, no memory, no permission, a network that is gone. `on_error="skip"` never
    leaves out a sample for it.
    """


class SamplerError(H5VideoError, ValueError):
    """A sampler returned something other than valid positions of the promised number."""


class ClosedError(H5VideoError, RuntimeError):
    """The loader was closed and cannot be iterated any more."""


class StateError(H5VideoError, ValueError):
    """A saved position does not belong to this loader's data, split or order."""


class PackingError(H5VideoError, ValueError, OSError):
    """No video could be packed, or the file could not be written."""


class RepackingError(H5VideoError, OSError):
    """A file could not be written anew: no space, or something in it cannot be copied."""
