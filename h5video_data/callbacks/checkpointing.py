"""`FeedCheckpoint`: resumes training in the middle of an epoch, exact to the sample."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from h5video_data.errors import ArgumentError, StateError

from .base import Callback, loader_of

if TYPE_CHECKING:
    import tensorflow as tf  # noqa: TID251 - only for the annotation

    from h5video_data.loader import VideoLoader

# Newest records that are kept: one for each epoch, or for each `save_freq` steps.
_MAX_RECORDS = 1000


# True value of `model.stop_training` that ends the epoch, but not the training.
_END_OF_EPOCH = object()


@dataclass(frozen=True)
class _Record:
    """Position in the data after a number of optimizer steps."""

    iterations: int
    """Steps that the optimizer had made."""
    epoch: int
    samples: int
    """Samples of the epoch that had been used."""
    batch_size: int
    """Samples in each of the steps that followed, over all workers."""


class FeedCheckpoint(Callback):
    """Resumes the data at the position that belongs to the restored weights.

    Put it after the callback that saves and restores the model:

        callbacks=[
            keras.callbacks.BackupAndRestore("backup", save_freq=100),
            h5v.callbacks.FeedCheckpoint(train, "backup_feed.json"),
        ]

    When the same script is started again, `fit` continues with the samples that had not been used
    when those weights were saved, in the same order, and then with the following epochs. Batches
    that were prefetched but not trained on are read again. It also works with `ModelCheckpoint`, if
    the script loads the newest model with its optimizer and passes `initial_epoch`.

    The optimizer's step count, which is saved together with the weights, says how many steps these
    have seen. So weights and position agree, whenever the process is killed. The file says which
    position in the data a step count belongs to: a small JSON file, replaced atomically once an
    epoch. Steps in between are counted from there.

    The callback also ties the order to Keras's epoch numbers: iterating over the dataset before or
    between epochs does not shift it. Each epoch of `fit` must be one pass over the dataset: without
    `repeat` and `steps_per_epoch` or, with `repeated`, with both.

    With several workers, the first one writes the file and all of them read it, so it must be on a
    file system that all workers share. The number of workers and `batch_size` may differ between
    runs.

    Args:
        feed: The training dataset that `video_dataset_from_hdf5` returned, or its `VideoLoader`.
        filepath: The file, such as `"backup_feed.json"`.
        save_freq: `"epoch"`, or a number of steps: write the file that often within an epoch as
            well. Needed only if the optimizer skips steps without counting them, as float16 loss
            scaling does.
        delete_checkpoint: Whether to delete the file at the end of training, as `BackupAndRestore`
            does.
        repeated: Whether `fit` gets the dataset with `.repeat()` and, as `steps_per_epoch`, the
            number of steps of one pass, as tf_keras needs it with
            `distribute_datasets_from_function`. One iterator then runs through all epochs, so the
            order is tied to Keras's epoch numbers only when training begins.

    Raises:
        ArgumentError: An argument is invalid.
        StateError: When training begins: the file was saved with other data, another split or
            another order.
    """

    def __init__(
        self,
        feed: tf.data.Dataset | VideoLoader,
        filepath: str | os.PathLike[str],
        *,
        save_freq: Literal["epoch"] | int = "epoch",
        delete_checkpoint: bool = True,
        repeated: bool = False,
    ) -> None:
        self._loader = loader_of(feed)
        if self._loader.batch_size is None:
            raise ArgumentError("FeedCheckpoint needs batches. Received: batch_size=None")
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ArgumentError(
                '`save_freq` must be "epoch" or a number of steps, 1 or more. '
                f"Received: save_freq={save_freq!r}"
            )
        self._path = Path(filepath)
        self._save_freq = None if save_freq == "epoch" else save_freq
        self._delete_checkpoint = delete_checkpoint
        self._repeated = repeated
        self._records: list[_Record] = []
        # State that training resumed with, and the number of steps that its weights had seen.
        self._resumed: dict[str, Any] | None = None
        self._iterations_at_begin = 0
        self._is_first_epoch = True
        self._epoch = 0
        self._samples_at_begin = 0
        self._first_batch: int | None = None
        self._steps_at_save = 0
        if self._save_freq is not None:
            self._watch_batches()

    def on_train_begin(self, logs: Any = None) -> None:
        """Resumes at the position that belongs to the model's weights."""
        del logs
        self._is_first_epoch = True
        self._iterations_at_begin = self._iterations()
        self._resumed = None
        # Later records belong to steps whose weights were not saved.
        self._records = [
            item for item in self._read() if item.iterations <= self._iterations_at_begin
        ]
        if not self._records:
            return
        epoch, samples = self._position(self._iterations_at_begin)
        self._resumed = self._loader.state_at(epoch=epoch, samples=samples)
        self._pin(self._resumed["epoch"])
        if self._resumed["samples"]:
            self._watch_batches()
        # BackupAndRestore saves the epoch number shortly after the weights: it may be out of date.
        if getattr(self._model, "_initial_epoch", None) is not None:
            self._model._initial_epoch = self._resumed["epoch"]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Pins the order of the samples to the number of the epoch."""
        del logs
        if self._is_first_epoch:
            self._check_begin(epoch)
        self._epoch, self._first_batch, self._steps_at_save = epoch, None, 0
        self._samples_at_begin = self._pin(epoch) if self._may_pin() else 0
        if self._is_first_epoch:
            self._is_first_epoch = False
            self._save(epoch, self._samples_at_begin)

    def _watch_batches(self) -> None:
        # Only when needed: Keras can be faster if it need not call anything at each step.
        self.on_train_batch_begin = self._begin_batch
        self.on_train_batch_end = self._end_batch

    def _begin_batch(self, batch: int, logs: Any = None) -> None:
        del logs
        if self._first_batch is None:
            self._first_batch = batch

    def _end_batch(self, batch: int, logs: Any = None) -> None:
        """Saves the position every `save_freq` steps; ends an epoch that was resumed."""
        del logs
        steps = batch + 1 - (self._first_batch or 0)
        batch_size = self._loader.global_batch_size
        if self._save_freq is not None and steps - self._steps_at_save >= self._save_freq:
            self._steps_at_save = steps
            self._save(self._epoch, self._samples_at_begin + steps * batch_size)
        if self._samples_at_begin and steps >= self._steps_left(self._samples_at_begin, batch_size):
            # Keras expects a whole epoch. If it asked for one more batch, its step would fail after
            # the optimizer had counted it.
            self._model.stop_training = _END_OF_EPOCH

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves the position at the beginning of the next epoch."""
        del logs
        if self._model.stop_training is _END_OF_EPOCH:
            self._model.stop_training = False
        self._save(epoch + 1, 0)
        if self._may_pin():
            self._pin(epoch + 1)

    def on_train_end(self, logs: Any = None) -> None:
        """Deletes the file, unless `delete_checkpoint` is False."""
        del logs
        if self._delete_checkpoint and self._loader._order.is_first_worker:
            self._path.unlink(missing_ok=True)

    def _iterations(self) -> int:
        """Returns the number of steps that the model's weights have seen."""
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is None:
            raise ArgumentError(
                "FeedCheckpoint needs a compiled model: it reads the step count from "
                "`model.optimizer`. Received: a model without an optimizer"
            )
        # `int` does not take the variables of a tf.distribute strategy.
        return int(optimizer.iterations.numpy())

    def _check_begin(self, epoch: int) -> None:
        """Raises an ArgumentError if `fit` does not begin where the weights were saved."""
        if self._iterations() != self._iterations_at_begin:
            raise ArgumentError(
                "FeedCheckpoint must come after the callback that restores the model, such as "
                "BackupAndRestore, in `callbacks`."
            )
        if self._resumed is not None and self._resumed["epoch"] != epoch:
            raise ArgumentError(
                f"`initial_epoch` must be {self._resumed['epoch']}, the epoch that the model's "
                f"weights belong to according to {self._path}; delete that file to start over. "
                f"Received: initial_epoch={epoch}"
            )

    def _may_pin(self) -> bool:
        # With one iterator for all epochs, the next one may have begun already.
        return self._is_first_epoch or not self._repeated

    def _pin(self, epoch: int) -> int:
        """Makes an epoch the next pass over the data; returns how many samples were used of it."""
        if self._resumed is not None and self._resumed["epoch"] == epoch:
            self._loader.load_state_dict(self._resumed)
            return int(self._resumed["samples"])
        self._loader.set_epoch(epoch)
        return 0

    def _position(self, iterations: int) -> tuple[int, int]:
        """Returns the epoch after a number of steps, and how many of its samples were used."""
        record = self._records[-1]
        steps, epoch, samples = iterations - record.iterations, record.epoch, record.samples
        while steps:
            left = self._steps_left(samples, record.batch_size)
            if not left and not samples:
                raise StateError(
                    f"{self._path} was written with batches of {record.batch_size} samples; with "
                    "drop_remainder=True, an epoch has no such batch. Pass the same "
                    "`drop_remainder` as then. "
                    f"Received: an epoch of {self._loader.samples_per_epoch} samples"
                )
            if steps < left:
                return epoch, samples + steps * record.batch_size
            steps, epoch, samples = steps - left, epoch + 1, 0
        return epoch, samples

    def _steps_left(self, samples: int, batch_size: int) -> int:
        """Returns the number of steps that are left of an epoch after a number of its samples."""
        whole, rest = divmod(self._loader.samples_per_epoch - samples, batch_size)
        return whole + (rest > 0 and not self._loader._options.drop_remainder)

    def _read(self) -> list[_Record]:
        """Returns the records of the file; none if there is no file."""
        if not self._path.exists():
            return []
        try:
            content = json.loads(self._path.read_text())
            records = [_Record(**record) for record in content["records"]]
            state = content["state"]
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(f"{self._path} was not written by FeedCheckpoint: {error}") from error
        self._loader.load_state_dict(state)
        return records

    def _save(self, epoch: int, samples: int) -> None:
        record = _Record(self._iterations(), epoch, samples, self._loader.global_batch_size)
        self._records = [*self._records, record][-_MAX_RECORDS:]
        if not self._loader._order.is_first_worker:
            return
        content = {
            "state": self._loader.state_at(epoch=epoch, samples=samples),
            "records": [asdict(item) for item in self._records],
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Without an `input_context`, workers do not know of each other, and all of them write.
        partial = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex}.partial")
        partial.write_text(json.dumps(content))
        os.replace(partial, self._path)
