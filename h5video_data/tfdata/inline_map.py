"""A map stage that runs in the thread of whoever asks it for an element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def map_inline(
    dataset: tf.data.Dataset, function: Callable[..., Any], element_spec: Any
) -> tf.data.Dataset:
    """`dataset.map(function)`, but in the thread of whoever asks for an element.

    `Dataset.map` has TensorFlow's pool of threads do it, which takes a tenth of a millisecond, and
    for as long as they are all busy with other map functions.

    Args:
        dataset: What to map.
        function: From an element's tensors, one by one, to those of another.
        element_spec: What these are together.
    """
    specs = map(tf.TensorSpec, dataset._flat_shapes, dataset._flat_types)

    def run(*element: tf.Tensor) -> Any:
        # XLA's clusters (`--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit`) need an executor of several
        # threads.
        with tf.xla.experimental.jit_scope(compile_ops=False):
            return function(*element)

    graph = tf.function(run, autograph=False).get_concrete_function(*specs)
    variant = tf.raw_ops.MapDataset(
        input_dataset=tf.data.experimental.to_variant(dataset),
        other_arguments=graph.captured_inputs,
        f=graph,
        output_types=[tensor.dtype for tensor in graph.outputs],
        output_shapes=[tensor.shape for tensor in graph.outputs],
        use_inter_op_parallelism=False,
        preserve_cardinality=True,
    )
    mapped = tf.data.experimental.from_variant(variant, element_spec)
    mapped.source = dataset  # which lives as long, as with other stages
    return mapped
