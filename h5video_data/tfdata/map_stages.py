"""The map functions as stages of a pipeline, with seeds for those that take them."""

from __future__ import annotations

import inspect
import re
from typing import Any

import tensorflow as tf

from h5video_data.options import MapFunction, function_name


class MapStage:
    """One map function, as tf.data traces it.

    Args:
        function: The map function.
        number: Number of the stage, from 0.
        is_last: Whether it is the last stage.

    Attributes:
        takes_seeds: Whether the function has a keyword-only parameter `seeds`.
        name: Name of the stage in TensorFlow's errors: "passed to map_fn_1_augment transformation".
        error: The exception that the function raised while it was traced, if it did.
    """

    def __init__(self, function: MapFunction, number: int, *, is_last: bool) -> None:
        self.takes_seeds = _takes_seeds(function)
        self.name = f"map_fn_{number}_{re.sub('[^A-Za-z0-9_]', '_', function_name(function))}"
        self.error: Exception | None = None
        self._function = function
        self._number = number
        self._is_last = is_last

    def without_seeds(self, *element: Any) -> Any:
        """Maps an element."""
        return self._call(element, {})

    def with_seeds(self, element: Any, seeds: tf.Tensor) -> Any:
        """Maps an element, and passes the seeds on if there is a next stage."""
        options = {}
        if self.takes_seeds:
            # The number of the stage makes its seeds differ from those of the others.
            salt = tf.constant([self._number << 16, 0], tf.int32)
            options["seeds"] = tf.bitwise.bitwise_xor(seeds, salt)
        # As Dataset.map does it: only a tuple is unpacked into arguments, and a list is a tuple.
        mapped = self._call(element if type(element) is tuple else (element,), options)
        mapped = tuple(mapped) if isinstance(mapped, list) else mapped
        return mapped if self._is_last else (mapped, seeds)

    def _call(self, arguments: tuple[Any, ...], options: dict[str, tf.Tensor]) -> Any:
        try:
            return self._function(*arguments, **options)
        except Exception as error:
            self.error = error
            raise


def _takes_seeds(function: MapFunction) -> bool:
    try:
        parameter = inspect.signature(function).parameters.get("seeds")
    except (TypeError, ValueError):  # a callable without a signature
        return False
    return parameter is not None and parameter.kind is inspect.Parameter.KEYWORD_ONLY
