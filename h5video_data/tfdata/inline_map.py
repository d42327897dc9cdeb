"""A map stage without threads of its own: it runs in the consumer's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def map_inline(
    dataset: tf.data.Dataset, function: Callable[..., Any], element_spec: Any
) -> tf.data.Dataset:
    """Returns `dataset.map(function)`, but run in the thread that asks for an element.

    `Dataset.map` runs it in TensorFlow's thread pool: that takes a tenth of a millisecond, or as
    long as all threads are busy with other map functions.

    Args:
        dataset: The dataset to map.
        function: Maps an element's tensors, each an argument, to those of the new element.
        element_spec: Spec of the new element.
    """
    specs = map(tf.TensorSpec, dataset._flat_shapes, dataset._flat_types)

    def run(*element: tf.Tensor) -> Any:
        # XLA's clusters (`--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit`) need an executor with
        # several threads.
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
    mapped.source = dataset  # must live as long, as with other stages
    return mapped
