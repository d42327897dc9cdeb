"""Map functions of labels."""

from __future__ import annotations

import tensorflow as tf

from h5video_data.arguments import check_whole_number
from h5video_data.errors import ArgumentError

from .elements import MapFunction, deterministic
from .selection import Key


def one_hot(num_classes: int, *, key: Key = "y") -> MapFunction:
    """Turns class numbers into one-hot labels, as `categorical_crossentropy` and `mixup` need them.

    The other way round is not needed: the loss `sparse_categorical_crossentropy` takes class
    numbers, and the metric of that name too.

    Args:
        num_classes: Number of classes; class numbers are from 0 to `num_classes` - 1.
        key: Names of the values that are class numbers: see `transforms`. By default y.

    Returns:
        A map function from (batch,) or (batch, 1), of any dtype, to float32 (batch, num_classes).
        TensorFlow raises an error if a number is not whole, or out of range.
    """
    check_whole_number("num_classes", num_classes, 1)

    def encode(classes: tf.Tensor) -> tf.Tensor:
        shape = classes.shape
        if shape.rank not in (1, 2) or shape[1:].as_list() not in ([], [1]):
            raise ArgumentError(
                "`one_hot` needs class numbers of shape (batch,) or (batch, 1). Leave it out if "
                "they are one-hot already; `tf.one_hot` in a map function of your own converts "
                f"numbers for each frame or pixel. Received: {classes.dtype.name} of shape {shape}"
            )
        if shape.rank == 2:
            classes = tf.squeeze(classes, [1])
        # In float64, all class numbers are exact, and others stay what they are.
        numbers = tf.cast(classes, tf.float64)
        is_class = (numbers >= 0) & (numbers < num_classes) & (numbers == tf.floor(numbers))
        wrong = tf.boolean_mask(numbers, tf.logical_not(is_class))
        message = f"Class numbers must be whole, from 0 to {num_classes - 1}. Received:"
        check = tf.debugging.Assert(tf.reduce_all(is_class), [message, wrong])
        with tf.control_dependencies([check] if check is not None else []):
            return tf.one_hot(tf.cast(numbers, tf.int64), num_classes)

    return deterministic(encode, key)
