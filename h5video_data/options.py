"""The arguments of `VideoLoader` and `video_dataset_from_hdf5`, with their defaults."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar, get_args

from .arguments import check_choice, check_whole_number, is_one_of, is_whole_number
from .errors import ArgumentError
from .opening.items import Labels, Names
from .samplers import Sampler
from .sampling.clips import Clip
from .sampling.split_indices import check_fraction
from .sampling.windows import Windows
from .splits import SampleIndices, SplitBy, StratifyBy, check_one_rule
from .storage.paths import check_options, is_url, shown_url
from .storage.picture_rows import ColorMode, Decode, Decoding
from .storage.pictures.resizing import Interpolation
from .storage.remote.request_options import request_options

if TYPE_CHECKING:
    import tensorflow as tf  # noqa: TID251 - only for the annotation

# "exact" is the older spelling of True.
Shuffle: TypeAlias = bool | Literal["exact", "blocks", "balanced"] | Sampler
Side: TypeAlias = Literal["training", "validation"]
Subset: TypeAlias = Literal["training", "validation", "both"]
OnError: TypeAlias = Literal["raise", "skip"]
MapFunction: TypeAlias = Callable[..., Any]
MapFunctions: TypeAlias = MapFunction | Sequence[MapFunction]
MapFunctionsBySide: TypeAlias = MapFunctions | Mapping[Side, MapFunctions | None]

_SHUFFLES = ("exact", "blocks", "balanced")

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False, kw_only=True)
class LoaderOptions:
    """The keyword arguments, checked as far as they can be without the files.

    `video_dataset_from_hdf5` documents each of them.

    Raises:
        ArgumentError: A value is not valid, or does not go with another one.
    """

    # What is read.
    x: Names = "X"
    y: Labels | None = "Y"
    sample_weight: Labels | None = None
    windows: Windows | int | None = None
    clip: Clip | None = None
    decode: Decode = "auto"
    image_size: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"
    color_mode: ColorMode | None = None
    # In batches of which samples.
    batch_size: int | None = 32
    drop_remainder: bool = False
    shuffle: Shuffle = True
    seed: int | None = None
    validation_split: float | None = None
    subset: Subset | None = None
    split_by: SplitBy = None
    stratify_by: StratifyBy = None
    indices: SampleIndices = None
    # In what form.
    map_fn: MapFunctionsBySide | None = None
    return_indices: bool = False
    on_error: OnError = "raise"
    # With what of the machine.
    read_ahead_bytes: int | None = None
    num_threads: int | None = None
    num_parallel_calls: int | None = None
    input_context: tf.distribute.InputContext | None = None
    device: str | None = None
    pin_memory: bool | None = None
    allow_external: bool = False
    # Not shown: there may be credentials in it.
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    remote_options: Mapping[str, Any] | None = None
    index: str | os.PathLike[str] | None = None
    cache_dir: str | os.PathLike[str] | None = None
    cache_bytes: int | None = None

    def __post_init__(self) -> None:
        check_whole_number("batch_size", self.batch_size, 1, or_none=True)
        check_whole_number("seed", self.seed, 0, or_none=True)
        check_whole_number("read_ahead_bytes", self.read_ahead_bytes, 0, or_none=True)
        check_whole_number("num_threads", self.num_threads, 1, or_none=True)
        check_whole_number("num_parallel_calls", self.num_parallel_calls, 1, or_none=True)
        check_choice("decode", self.decode, "auto", "image", None)
        check_choice("interpolation", self.interpolation, *get_args(Interpolation))
        check_choice("color_mode", self.color_mode, None, *get_args(ColorMode))
        _check_image_size(self.image_size)
        _check_split(self)
        check_choice("on_error", self.on_error, "raise", "skip")
        check_options(self.storage_options)
        request_options(self.remote_options)
        _check_local_files(self)
        if self.pin_memory is not None and not isinstance(self.pin_memory, bool):
            raise ArgumentError(
                "`pin_memory` must be None, True or False. Received: "
                f"pin_memory={self.pin_memory!r}"
            )
        if not isinstance(self.return_indices, bool):
            hint = "; `indices` chooses samples" if hasattr(self.return_indices, "__len__") else ""
            raise ArgumentError(
                f"`return_indices` must be True or False{hint}. Received: "
                f"return_indices={self.return_indices!r}"
            )
        _check_shuffle(self.shuffle)
        _as_windows(self.windows, self.clip)
        # Tuples, since an iterator can be read only once.
        object.__setattr__(self, "map_fn", _of_side(self.map_fn, self.subset))

    def check_one_side(self) -> None:
        """Raises an ArgumentError for both sides of a split."""
        if self.subset == "both":
            raise ArgumentError(
                'VideoLoader is one side of a split: `subset` must be "training" or "validation"; '
                'video_dataset_from_hdf5 takes "both". Received: subset="both"'
            )

    @property
    def of_recordings(self) -> Windows | None:
        """The windows, of which a number of frames is one form; None: samples are rows."""
        return _as_windows(self.windows, self.clip)

    @property
    def decoding(self) -> Decoding:
        """Which datasets are decoded as pictures, and how."""
        size = self.image_size
        return Decoding(
            self.decode, size and (int(size[0]), int(size[1])), self.interpolation, self.color_mode
        )

    @property
    def map_fns(self) -> tuple[MapFunction, ...]:
        """The map functions of one side, in the order of their stages."""
        return _as_functions(self.map_fn)

    @property
    def names_samples(self) -> bool:
        """Whether an argument is about samples by their numbers."""
        lengths = None if self.clip is None else getattr(self.clip, "lengths", None)
        given = (self.indices, self.split_by, self.stratify_by, lengths)
        return any(item is not None and not isinstance(item, str) for item in given)

    @property
    def is_order_drawn(self) -> bool:
        """Whether the order of the epochs is drawn from the loader's seed."""
        return self.shuffle is not False and isinstance(self.shuffle, (bool, str))


class LoaderArguments(TypedDict, total=False):
    """The fields of `LoaderOptions` for type checkers; without `subset`, which has overloads."""

    x: Names
    y: Labels | None
    sample_weight: Labels | None
    windows: Windows | int | None
    clip: Clip | None
    decode: Decode
    image_size: tuple[int, int] | None
    interpolation: Interpolation
    color_mode: ColorMode | None
    batch_size: int | None
    drop_remainder: bool
    shuffle: Shuffle
    seed: int | None
    validation_split: float | None
    split_by: SplitBy
    stratify_by: StratifyBy
    indices: SampleIndices
    map_fn: MapFunctionsBySide | None
    return_indices: bool
    on_error: OnError
    read_ahead_bytes: int | None
    num_threads: int | None
    num_parallel_calls: int | None
    input_context: tf.distribute.InputContext | None
    device: str | None
    pin_memory: bool | None
    allow_external: bool
    storage_options: Mapping[str, Any] | None
    remote_options: Mapping[str, Any] | None
    index: str | os.PathLike[str] | None
    cache_dir: str | os.PathLike[str] | None
    cache_bytes: int | None


def options_of(function: str, arguments: Mapping[str, Any]) -> LoaderOptions:
    """Returns the options that a call's keyword arguments stand for.

    Args:
        function: Name of the function that was called, for the TypeError of a wrong keyword.
        arguments: The keyword arguments.

    Raises:
        TypeError: There is no such argument.
        ArgumentError: A value is not valid, or does not go with another one.
    """
    known = {field.name for field in fields(LoaderOptions)}
    for name in arguments:
        if name not in known:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    return LoaderOptions(**arguments)


def lists_options(function: _Function) -> _Function:
    """Decorator: has `help` and `inspect.signature` show the options in place of `**options`."""
    signature = inspect.signature(function)
    own = signature.parameters
    options = {
        field.name: inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
        )
        for field in fields(LoaderOptions)
    }
    # What the function says itself of an argument counts.
    options |= {name: own[name] for name in options if name in own}
    first = [item for item in own.values() if item.kind is item.POSITIONAL_OR_KEYWORD]
    listed = signature.replace(parameters=[*first, *options.values()])
    function.__signature__ = listed  # type: ignore[attr-defined]
    return function


def function_name(function: MapFunction) -> str:
    """Returns the name of a map function, for messages."""
    function = getattr(function, "func", function)  # of a functools.partial
    return str(getattr(function, "__name__", type(function).__name__))


def _of_side(map_fn: Any, subset: Subset | None) -> Any:
    """Returns the map functions of one side; a dict of those of both if `subset` is "both"."""
    if not isinstance(map_fn, Mapping):
        return _as_functions(map_fn)
    if subset is None:
        raise ArgumentError(
            "`map_fn` by side of a split, a dict, needs a `subset` and a `validation_split`. "
            f"Received: map_fn={map_fn!r}, subset=None"
        )
    for side in map_fn:
        if not is_one_of(side, "training", "validation"):
            raise ArgumentError(
                '`map_fn` as a dict must have no keys but "training" and "validation". '
                f"Received: {side!r}"
            )
    by_side = {side: _as_functions(functions) for side, functions in map_fn.items()}
    return by_side if subset == "both" else by_side.get(subset, ())


def _as_windows(windows: Any, clip: Any) -> Windows | None:
    """Returns the windows that a number of frames stands for."""
    if windows is None:
        return None
    if is_whole_number(windows):
        windows = Windows(windows)
    if not isinstance(windows, Windows):
        raise ArgumentError(
            "`windows` must be a number of frames, or a Windows, such as Windows(16, stride=2). "
            f"Received: windows={windows!r}"
        )
    if clip is not None:
        raise ArgumentError(
            "`clip` and `windows` exclude each other: a clip is of a stacked sample, a window of a "
            f"recording. Received: clip={clip!r}, windows={windows!r}"
        )
    return windows


def _as_functions(map_fn: Any) -> tuple[MapFunction, ...]:
    """Returns the functions that `map_fn` stands for: none, one, or several."""
    if map_fn is None:
        return ()
    functions = (map_fn,) if callable(map_fn) or not isinstance(map_fn, Iterable) else (*map_fn,)
    for function in functions:
        if not callable(function):
            raise ArgumentError(
                "`map_fn` must be a function, a list of functions, or a dict of these by side of "
                f"the split. Received: {function!r}"
            )
    return functions


def _check_image_size(image_size: Any) -> None:
    is_pair = isinstance(image_size, Sequence) and len(image_size) == 2
    if image_size is not None and not (
        is_pair and all(is_whole_number(item) and item > 0 for item in image_size)
    ):
        raise ArgumentError(
            "`image_size` must be (rows, columns), two whole numbers from 1. Received: "
            f"image_size={image_size!r}"
        )


def _check_local_files(options: LoaderOptions) -> None:
    for name in ("index", "cache_dir"):
        value = getattr(options, name)
        if value is not None and not isinstance(value, (str, os.PathLike)):
            hint = _hint_of_indices(value) if name == "index" else ""
            raise ArgumentError(f"`{name}` must be a path. {hint}Received: {name}={value!r}")
        if is_url(value):
            raise ArgumentError(
                f"`{name}` must be on this machine. Received: {name}={shown_url(str(value))!r}"
            )
    check_whole_number("cache_bytes", options.cache_bytes, 1, or_none=True)
    if options.cache_bytes is not None and options.cache_dir is None:
        raise ArgumentError(
            "`cache_bytes` is the limit of `cache_dir`, which is not given. Received: "
            f"cache_bytes={options.cache_bytes}, cache_dir=None"
        )


def _check_shuffle(shuffle: Any) -> None:
    is_sampler = isinstance(shuffle, Sampler) and not isinstance(shuffle, type)
    if not (isinstance(shuffle, bool) or is_one_of(shuffle, *_SHUFFLES) or is_sampler):
        raise ArgumentError(
            '`shuffle` must be True, "blocks", "balanced", False, or a Sampler: an object with a '
            f"method `epoch`. {_hint_of_indices(shuffle)}Received: shuffle={shuffle!r}"
        )


def _hint_of_indices(shuffle: Any) -> str:
    is_array = hasattr(shuffle, "__len__") and not isinstance(shuffle, (str, type))
    return "To choose samples, use `indices`. " if is_array else ""


def _check_split(options: LoaderOptions) -> None:
    """Raises an ArgumentError where `keras.utils.image_dataset_from_directory` raises an error."""
    fraction, subset = options.validation_split, options.subset
    check_choice("subset", subset, None, "training", "validation", "both")
    if fraction is not None:
        check_fraction(fraction)
    if (fraction is None) != (subset is None):
        raise ArgumentError(
            "`validation_split` and `subset` must be given together. Received: "
            f"validation_split={fraction}, subset={subset!r}"
        )
    if fraction is None and options.split_by is not None:
        raise ArgumentError(
            f"`split_by` needs a `validation_split`. Received: split_by={options.split_by!r}"
        )
    if fraction is None and options.stratify_by is not None:
        raise ArgumentError(
            "`stratify_by` needs a `validation_split`. "
            f"Received: stratify_by={options.stratify_by!r}"
        )
    check_one_rule(options.split_by, options.stratify_by)
    if fraction is not None and options.shuffle is not False and options.seed is None:
        raise ArgumentError(
            "A split of shuffled samples needs a `seed`, so that training and validation do not "
            f"overlap. Received: validation_split={fraction}, shuffle={options.shuffle!r}, "
            "seed=None"
        )
