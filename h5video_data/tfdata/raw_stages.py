"""Stages of a pipeline that are made of TensorFlow's operations, not by methods of a dataset.

They do what no method does, or what a method takes milliseconds for: the first `iter()` of a
process makes each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

_as_variant: Any = tf.data.experimental.to_variant


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
    graph = _graph_of(function, dataset)
    mapped = tf.raw_ops.MapDataset(
        input_dataset=_as_variant(dataset),
        other_arguments=graph.captured_inputs,
        f=graph,
        output_types=[tensor.dtype for tensor in graph.outputs],
        output_shapes=[tensor.shape for tensor in graph.outputs],
        use_inter_op_parallelism=False,
        preserve_cardinality=True,
    )
    return _as_dataset(mapped, element_spec, dataset)


def flat_map(
    dataset: tf.data.Dataset, function: Callable[..., tf.data.Dataset], element_spec: Any
) -> tf.data.Dataset:
    """Returns `dataset.flat_map(function)`.

    Args:
        dataset: The dataset to map.
        function: Maps an element's tensors, each an argument, to a dataset of new elements.
        element_spec: Spec of a new element.
    """
    graph = _graph_of(lambda *element: _as_variant(function(*element)), dataset)
    mapped = tf.raw_ops.FlatMapDataset(
        input_dataset=_as_variant(dataset),
        other_arguments=graph.captured_inputs,
        f=graph,
        **_form_of(element_spec),
    )
    return _as_dataset(mapped, element_spec, dataset)


def pairs(first: tf.data.Dataset, second: tf.data.Dataset) -> tf.data.Dataset:
    """Returns `tf.data.Dataset.zip((first, second))`: the first one is asked first."""
    spec = (first.element_spec, second.element_spec)
    zipped = tf.raw_ops.ZipDataset(
        input_datasets=[_as_variant(first), _as_variant(second)], **_form_of(spec)
    )
    return _as_dataset(zipped, spec, (first, second))


def at_most(count: int, dataset: tf.data.Dataset, zeros: tf.Tensor) -> tf.data.Dataset:
    """Returns a dataset of the same elements whose cardinality is `count`, as Keras wants.

    An epoch that goes on from a saved position has fewer elements, which `assert_cardinality` would
    make an error. A choice between two datasets counts as infinite if one of them is. This one
    always chooses the first, and ends with it: an iterator runs the generator once, and cannot
    begin another epoch.

    What chooses holds `zeros`, int64 (n,): they live as long as what is made of the pipeline.
    """
    spec = dataset.element_spec
    form = _form_of(spec)
    # Of the right types, which is what TensorFlow compares; their shapes would take memory.
    empty = [
        tf.constant(np.empty([0] * item.shape.rank, item.dtype.as_numpy_dtype), item.dtype)
        for item in tf.nest.flatten(spec)
    ]
    never_asked = tf.raw_ops.TensorDataset(components=empty, output_shapes=[e.shape for e in empty])
    always_first = _as_variant(tf.data.Dataset.from_tensor_slices(zeros))
    both = tf.raw_ops.DirectedInterleaveDataset(
        selector_input_dataset=_repeat(always_first, _form_of(tf.TensorSpec((), tf.int64))),
        data_input_datasets=[_as_variant(dataset), _repeat(never_asked, form)],
        stop_on_empty_dataset=True,
        **form,
    )
    counted = tf.raw_ops.TakeDataset(input_dataset=both, count=tf.constant(count, tf.int64), **form)
    return _as_dataset(counted, spec, dataset)


def _repeat(variant: tf.Tensor, form: dict[str, Any]) -> tf.Tensor:
    count = tf.constant(-1, tf.int64)
    return tf.raw_ops.RepeatDataset(input_dataset=variant, count=count, **form)


def _graph_of(function: Callable[..., Any], dataset: tf.data.Dataset) -> Any:
    def run(*element: tf.Tensor) -> Any:
        # XLA's clusters (`--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit`) need an executor with
        # several threads.
        with tf.xla.experimental.jit_scope(compile_ops=False):
            return function(*element)

    specs = map(tf.TensorSpec, dataset._flat_shapes, dataset._flat_types)
    return tf.function(run, autograph=False).get_concrete_function(*specs)


def _form_of(element_spec: Any) -> dict[str, Any]:
    """Returns what operations take to know the tensors of an element."""
    tensors = tf.nest.flatten(element_spec)
    return {
        "output_types": [tensor.dtype for tensor in tensors],
        "output_shapes": [tensor.shape for tensor in tensors],
    }


def _as_dataset(variant: tf.Tensor, element_spec: Any, source: Any) -> tf.data.Dataset:
    made = tf.data.experimental.from_variant(variant, element_spec)
    made.source = source  # must live as long, as with other stages
    return made
