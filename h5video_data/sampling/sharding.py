"""The shard of a worker: its part of every global batch, by position, before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError

if TYPE_CHECKING:
    import tensorflow as tf  # noqa: TID251 - only for the annotation


@dataclass(frozen=True)
class ReplicaShard:
    """The replicas of a worker, among all those that share a global batch.

    A global batch is cut into as many parts as there are replicas, in order; part r is an element
    for replica r. A smaller last batch is cut as evenly as possible; if it has fewer samples than
    there are replicas, some of them come twice, so that every replica has a sample.
    """

    num_replicas: int = 1
    """Number of replicas, over all workers."""
    first: int = 0
    """Number of the worker's first replica, from 0."""
    count: int = 1
    """Number of the worker's replicas."""

    @property
    def is_one_of_several(self) -> bool:
        """Whether other workers have replicas as well."""
        return self.count < self.num_replicas

    def cut(
        self, num_samples: int, batch_size: int, *, drop_remainder: bool
    ) -> tuple[NDArray[np.int64] | slice, NDArray[np.int64]]:
        """Cuts an epoch of all workers' samples, in global batches, into this worker's elements.

        Returns:
            int64 (n,), positions in the epoch's order, or a slice of it if there is one replica;
            and int64 (elements,), the ends (exclusive) of the elements among them.
        """
        whole, rest = divmod(num_samples, batch_size)
        if self.num_replicas == 1:  # without an array as long as the epoch
            ends = batch_size * np.arange(1, whole + 1, dtype=np.int64)
            if rest and not drop_remainder:
                ends = np.append(ends, num_samples)
            return slice(0, int(ends[-1]) if len(ends) else 0), ends
        part = batch_size // self.num_replicas
        parts_of_whole = np.arange(whole * batch_size, dtype=np.int64).reshape(
            whole, self.num_replicas, part
        )
        positions = parts_of_whole[:, self.first : self.first + self.count].ravel()
        ends = part * np.arange(1, whole * self.count + 1, dtype=np.int64)
        if not rest or drop_remainder:
            return positions, ends
        parts = np.array_split(whole * batch_size + np.arange(rest), self.num_replicas)
        if rest < self.num_replicas:
            parts = [parts[replica % rest] for replica in range(self.num_replicas)]
        last = parts[self.first : self.first + self.count]
        last_ends = len(positions) + np.cumsum([len(part) for part in last])
        return np.concatenate([positions, *last]), np.concatenate([ends, last_ends])


def replica_shard(
    context: tf.distribute.InputContext | None, batch_size: int | None
) -> ReplicaShard:
    """Returns the shard of the worker that an `InputContext` describes; None: the only one."""
    if context is None:
        return ReplicaShard()
    try:
        replicas = int(context.num_replicas_in_sync)
        workers = int(context.num_input_pipelines)
        worker = int(context.input_pipeline_id)
    except AttributeError as error:
        raise ArgumentError(
            f"`input_context` must be a tf.distribute.InputContext. Received: {context!r}"
        ) from error
    if batch_size is None:
        raise ArgumentError(
            "`input_context` needs batches to divide: `batch_size` must be given. "
            "Received: batch_size=None with an input_context"
        )
    if batch_size % replicas:
        raise ArgumentError(
            "`batch_size` is global with an `input_context`: it must be a multiple of the "
            f"number of replicas. Received: batch_size={batch_size} for {replicas} replicas"
        )
    if replicas % workers:
        raise ArgumentError(
            "`input_context` must have the same number of replicas on each worker. "
            f"Received: {replicas} replicas on {workers} workers"
        )
    count = replicas // workers
    return ReplicaShard(replicas, worker * count, count)
