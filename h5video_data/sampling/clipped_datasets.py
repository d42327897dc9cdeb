"""Which datasets of a set a `Clip` holds for, along which axis of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from h5video_data.errors import ArgumentError

from .clips import Clip, other_reading

Shape = tuple[int, ...]

# Lengths of an axis that are rather channels than frames, of an image or a flow.
_CHANNELS = range(1, 5)


def clips_of_datasets(
    clip: Clip | None, shapes: Mapping[str, Shape], x: Sequence[str], others: Sequence[str]
) -> dict[str, Clip]:
    """Finds the datasets that a clip holds for.

    Args:
        clip: The clip; None: there is none.
        shapes: By the name of each dataset, the shape of a sample as it is stored.
        x: The names of the datasets of x.
        others: The names of those of y and of the weights.

    Returns:
        By name, the clip with the number of its axis.

    Raises:
        ArgumentError: The clip does not fit into the samples, or it is not clear what is to be
            clipped.
    """
    if clip is None:
        return {}
    if not isinstance(clip, Clip):
        raise ArgumentError(f"`clip` must be a Clip, such as Clip(16). Received: clip={clip!r}")
    found = {name: clip.of_samples(name, shapes[name]) for name in x if len(shapes[name]) > 1}
    if not found:
        raise ArgumentError(
            "`clip` needs samples with a frame axis: shape (frames, ...). "
            f"Received: clip={clip!r} for {', '.join(map(repr, x))}"
        )
    lengths = {name: shapes[name][item.axis or 0] for name, item in found.items()}
    _check_same_rate(lengths, shapes)
    shortest = min(lengths, key=lengths.__getitem__)
    if clip.span > lengths[shortest]:
        raise ArgumentError(
            f"`clip` must fit into the samples, which have {lengths[shortest]} frames along axis "
            f"{found[shortest].axis}; `axis` names another one. Received: {clip!r}, which takes "
            f"{clip.span}"
        )
    _check_shared(clip, set(found), others)
    ranks = {len(shapes[name]) for name in found}
    of_y = {}
    for name in dict.fromkeys(others):
        axis = _axis_of_y(clip, shapes[name])
        if name in found or axis is None or shapes[name][axis] not in lengths.values():
            continue
        if clip.y is None:
            _check_frames_of_y(clip, name, shapes[name], axis, ranks)
        of_y[name] = clip.along(axis)
    if clip.y and not of_y and not set(others) & set(found):
        raise ArgumentError(
            "`Clip(..., y=True)` needs a dataset of y with as many frames as x, "
            f"{' or '.join(map(str, sorted(set(lengths.values()))))}, along the same axis. "
            f"Received: {_listed(shapes, others) or 'y=None'}"
        )
    return found | of_y


def _axis_of_y(clip: Clip, shape: Shape) -> int | None:
    """Returns the axis of samples of y that may be clipped, None if they are not to be."""
    rank, axis = len(shape), clip.axis or 0
    if clip.y is False or rank < (1 if clip.y else 3):
        return None
    if rank == 1:
        return 0
    return axis % rank if -rank <= axis < rank else None


def _check_frames_of_y(clip: Clip, name: str, shape: Shape, axis: int, ranks: set[int]) -> None:
    """Raises an ArgumentError if samples of y with as many frames as x may be something else."""
    could_be = None
    is_image = len(shape) == 3
    if axis == 0:
        could_be = other_reading(shape)
        if is_image and shape[2] in _CHANNELS:
            could_be = "(rows, columns, channels)"
        elif is_image and shape[0] in _CHANNELS:
            could_be = "(channels, rows, columns)"
    elif is_image and axis == 2 and shape[2] in _CHANNELS:
        could_be = "(rows, columns, channels)"
    elif axis != len(shape) - 1 and len(shape) not in ranks:
        could_be = "without frames"
    if could_be is not None:
        raise ArgumentError(
            f"The samples of {name!r} have the shape {shape}, with as many frames along axis "
            f"{axis} as x, but could also be {could_be}. Pass Clip({clip.num_frames}, ..., y=True) "
            f"if they are to have the same frames as x, y=False if not. Received: clip={clip!r}"
        )


def _check_same_rate(lengths: Mapping[str, int], shapes: Mapping[str, Shape]) -> None:
    """Raises an ArgumentError if datasets of x cannot be of the same frames, to judge by counts."""
    least, most = min(lengths.values()), max(lengths.values())
    # What looks like video may be short by some frames; features may not: 12 may be joints.
    of_video = {length for name, length in lengths.items() if len(shapes[name]) > 2} or {most}
    is_other_rate = most - least > 1 and least <= (most + 1) // 2
    if is_other_rate or not of_video.issuperset(lengths.values()):
        raise ArgumentError(
            "`clip` takes the same frames of all datasets of x, up to the end of the shortest one. "
            "These may have other frame rates, or no frames along this axis: "
            f"{', '.join(f'{name!r} with {n}' for name, n in lengths.items())}. Leave `clip` out "
            "and cut in a map function, or make datasets of x of as many frames."
        )


def _check_shared(clip: Clip, clipped: set[str], others: Sequence[str]) -> None:
    """Raises an ArgumentError if a dataset of x that is clipped must stay whole for y."""
    shared = sorted(clipped & set(others))
    if shared and clip.y is False:
        raise ArgumentError(
            f"A dataset of x and y is clipped for both. Received: {shared[0]!r} in x and y, "
            f"clip={clip!r}"
        )


def _listed(shapes: Mapping[str, Shape], names: Sequence[str]) -> str:
    return ", ".join(f"{name!r} with samples of shape {shapes[name]}" for name in names)
