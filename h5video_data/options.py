"""The arguments of `VideoLoader` and `video_dataset_from_hdf5`, with their defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar

from .arguments import check_choice, check_whole_number, is_one_of
from .errors import ArgumentError
from .items import Labels, Names
from .samplers import Sampler
from .sampling.clips import Clip
from .sampling.split_indices import check_fraction
from .splits import SplitBy

if TYPE_CHECKING:
    import tensorflow as tf  # noqa: TID251 - only for the annotation

# "exact" is the older spelling of True.
Shuffle: TypeAlias = bool | Literal["exact", "blocks"] | Sampler
Side: TypeAlias = Literal["training", "validation"]
Subset: TypeAlias = Literal["training", "validation", "both"]
OnError: TypeAlias = Literal["raise", "skip"]
MapFunction: TypeAlias = Callable[..., Any]
MapFunctions: TypeAlias = MapFunction | Sequence[MapFunction]

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
    clip: Clip | None = None
    # In batches of which samples.
    batch_size: int | None = 32
    drop_remainder: bool = False
    shuffle: Shuffle = True
    seed: int | None = None
    validation_split: float | None = None
    subset: Subset | None = None
    split_by: SplitBy = None
    # In what form.
    map_fn: MapFunctions | None = None
    on_error: OnError = "raise"
    # With what of the machine.
    read_ahead_bytes: int | None = None
    num_threads: int | None = None
    input_context: tf.distribute.InputContext | None = None
    device: str | None = None
    pin_memory: bool | None = None

    def __post_init__(self) -> None:
        check_whole_number("batch_size", self.batch_size, 1, or_none=True)
        check_whole_number("seed", self.seed, 0, or_none=True)
        check_whole_number("read_ahead_bytes", self.read_ahead_bytes, 0, or_none=True)
        check_whole_number("num_threads", self.num_threads, 1, or_none=True)
        _check_split(self)
        check_choice("on_error", self.on_error, "raise", "skip")
        if self.pin_memory is not None and not isinstance(self.pin_memory, bool):
            raise ArgumentError(
                "`pin_memory` must be None, True or False. Received: "
                f"pin_memory={self.pin_memory!r}"
            )
        _check_shuffle(self.shuffle)
        # A tuple, since an iterator can be read only once.
        object.__setattr__(self, "map_fn", _as_functions(self.map_fn))

    @property
    def map_fns(self) -> tuple[MapFunction, ...]:
        """The map functions, in the order of their stages."""
        return _as_functions(self.map_fn)

    @property
    def is_order_drawn(self) -> bool:
        """Whether the order of the epochs is drawn from the loader's seed."""
        return self.shuffle is not False and isinstance(self.shuffle, (bool, str))


class LoaderArguments(TypedDict, total=False):
    """The fields of `LoaderOptions` for type checkers; without `subset`, which has overloads."""

    x: Names
    y: Labels | None
    sample_weight: Labels | None
    clip: Clip | None
    batch_size: int | None
    drop_remainder: bool
    shuffle: Shuffle
    seed: int | None
    validation_split: float | None
    split_by: SplitBy
    map_fn: MapFunctions | None
    on_error: OnError
    read_ahead_bytes: int | None
    num_threads: int | None
    input_context: tf.distribute.InputContext | None
    device: str | None
    pin_memory: bool | None


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


def _as_functions(map_fn: Any) -> tuple[MapFunction, ...]:
    """Returns the functions that `map_fn` stands for: none, one, or several."""
    if map_fn is None:
        return ()
    functions = (map_fn,) if callable(map_fn) or not isinstance(map_fn, Iterable) else (*map_fn,)
    for function in functions:
        if not callable(function):
            raise ArgumentError(
                f"`map_fn` must be a function or a list of functions. Received: {function!r}"
            )
    return functions


def _check_shuffle(shuffle: Any) -> None:
    is_sampler = isinstance(shuffle, Sampler) and not isinstance(shuffle, type)
    if not (isinstance(shuffle, bool) or is_one_of(shuffle, "exact", "blocks") or is_sampler):
        raise ArgumentError(
            '`shuffle` must be True, "blocks", False, or a Sampler: an object with a method '
            f"`epoch`. Received: shuffle={shuffle!r}"
        )


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
    if fraction is not None and options.shuffle is not False and options.seed is None:
        raise ArgumentError(
            "A split of shuffled samples needs a `seed`, so that training and validation do not "
            f"overlap. Received: validation_split={fraction}, shuffle=True, seed=None"
        )
