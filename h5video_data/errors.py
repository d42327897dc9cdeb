"""Exceptions of this package. Catch `H5VideoError` for all of them.

    H5VideoError
    ├── ArgumentError (ValueError)                  invalid argument, or combination of arguments
    ├── VideoFileNotFoundError (FileNotFoundError)  file does not exist, or no file matches a glob
    ├── NotHDF5Error (OSError)                      not an HDF5 file, or a truncated one
    ├── FileInUseError (OSError)                    file is open for writing elsewhere
    ├── DatasetNotFoundError (KeyError)             file has no dataset of that name
    ├── FileFormatError (ValueError)                shapes, lengths, attributes, damaged metadata
    │   └── UnsupportedDtypeError (TypeError)       strings, references, compounds, ...
    ├── ExternalFileError                           file leads to one outside of its folder
    ├── MissingFilterError (OSError)                HDF5 filter plugin is not installed
    ├── MissingDependencyError (ImportError)        optional package is not installed
    ├── ReadError (OSError)                         sample cannot be read or decoded
    │   └── FileChangedError                        file was changed or replaced after opening
    ├── UnavailableError (OSError)                  no permission, descriptors, memory, network
    ├── SamplerError (ValueError)                   sampler returned invalid positions
    ├── StateError (ValueError)                     saved state of other data or another order
    ├── ClosedError (RuntimeError)                  loader is closed
    ├── PackingError (ValueError, OSError)          no video could be packed, or not written
    └── RepackingError (OSError)                    file could not be repacked

An error that is raised inside `tf.data` reaches the caller as a `tf.errors.OpError`, whose text has
the name, message and traceback of the original.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "ClosedError",
    "DatasetNotFoundError",
    "ExternalFileError",
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
    """Base class of all exceptions of this package."""


class ArgumentError(H5VideoError, ValueError):
    """An argument, or a combination of arguments, is invalid."""


class VideoFileNotFoundError(H5VideoError, FileNotFoundError):
    """A file does not exist, or no file matches a glob."""


class NotHDF5Error(H5VideoError, OSError):
    """A file is not an HDF5 file, or is truncated."""


class FileInUseError(H5VideoError, OSError):
    """A file is open for writing elsewhere, usually in another process."""


class DatasetNotFoundError(H5VideoError, KeyError):
    """A file has no dataset of that name."""

    def __str__(self) -> str:
        # `str` of a KeyError is the repr of its argument, which would quote the message.
        return str(self.args[0]) if self.args else ""


class FileFormatError(H5VideoError, ValueError):
    """The datasets of a file do not fit together, or its metadata are damaged.

    Shapes, lengths, attributes such as `sample_count`, chunk indexes.
    """


class UnsupportedDtypeError(FileFormatError, TypeError):
    """The dtype of a dataset is not one of a numeric TensorFlow tensor."""


class ExternalFileError(H5VideoError):
    """A file leads to one outside of its folder: by a link, a virtual dataset, external storage.

    `allow_external=True` allows it.
    """


class MissingFilterError(H5VideoError, OSError):
    """A dataset needs an HDF5 filter that is not installed."""


class MissingDependencyError(H5VideoError, ImportError):
    """An optional package that a function needs is not installed."""


class ReadError(H5VideoError, OSError):
    """A sample cannot be read or decoded: truncated, corrupt, or a disk error."""


class FileChangedError(ReadError):
    """A file was changed or replaced after opening: size, modification time or inode differ."""


class UnavailableError(H5VideoError, OSError):
    """A file cannot be read because of the machine, not because of the file.

    Too many open files, not enough memory, no permission, a lost network mount. `on_error="skip"`
    does not skip samples for it.
    """


class SamplerError(H5VideoError, ValueError):
    """A sampler returned invalid positions, or another number of them than before."""


class ClosedError(H5VideoError, RuntimeError):
    """The loader is closed and cannot be iterated."""


class StateError(H5VideoError, ValueError):
    """A saved state is of other data, another split or another order than this loader's."""


class PackingError(H5VideoError, ValueError, OSError):
    """No video could be packed, or the packed file could not be written."""


class RepackingError(H5VideoError, OSError):
    """A file could not be repacked: no space left, or something in it cannot be copied."""
