"""Opens the files of a set: what was asked for, where it is, and how each part of it is read."""

from __future__ import annotations

from h5video_data.errors import DatasetNotFoundError
from h5video_data.sampling.clips import Clip
from h5video_data.sampling.windows import Windows
from h5video_data.storage.paths import Paths as Paths
from h5video_data.storage.paths import reusable as reusable
from h5video_data.storage.paths import with_options as with_options
from h5video_data.storage.picture_rows import Decoding
from h5video_data.video_set import VideoSet

from .components import check_decoding as check_decoding
from .items import Labels as Labels
from .items import Names as Names
from .items import check_items
from .recording_index import using_index as using_index
from .recordings import check_no_recordings, open_recordings
from .stacked import open_stacked


def open_video_set(
    path: Paths,
    x: Names = "X",
    y: Labels | None = "Y",
    sample_weight: Labels | None = None,
    clip: Clip | None = None,
    windows: Windows | None = None,
    decoding: Decoding | None = None,
    *,
    budget_nbytes: int = 0,
    by_number: bool = False,
) -> VideoSet:
    """Opens files, checks that their datasets fit together, and closes them again.

    Args:
        path: A path, an iterable of paths, or a glob.
        x: Name of the dataset of samples, or a dict of names.
        y: Name of the dataset of labels, an array, or a dict of these; None: no labels.
        sample_weight: Name of the dataset of weights, or an array; None: no weights.
        clip: Which frames of the samples of x to read; None: all of them.
        windows: Which rows of recordings are a sample; None: each row is one.
        decoding: Which datasets are decoded as pictures, and how; None: those that can be.
        budget_nbytes: Memory for the values of datasets of many small samples, beyond labels.
        by_number: Whether the caller names samples by their numbers.

    Raises:
        ArgumentError: The clip or the windows do not fit, or an array has another length.
        FileFormatError: The datasets do not fit together.
        H5VideoError: Any of the errors of `open_file`, `find_dataset` and `describe`.
    """
    items = check_items(x, y, sample_weight)
    decoding = decoding or Decoding()
    if windows is not None:
        return open_recordings(
            path, items, windows, decoding, budget_nbytes=budget_nbytes, by_number=by_number
        )
    try:
        return open_stacked(
            path, items, clip, decoding, budget_nbytes=budget_nbytes, by_number=by_number
        )
    except DatasetNotFoundError:
        # Only now: a dataset may have such a name.
        check_no_recordings(items)
        raise
