"""`FeedCheckpoint`: training goes on in the middle of an epoch, exact to the sample."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from h5video_data.errors import ArgumentError, StateError

from .base import Callback, loader_of

# Records kept, the last ones: one an epoch, or one every `save_freq` steps.
MAX_RECORDS = 1000


class _EndOfEpoch:
    """What `model.stop_training` is when the epoch is at its end, but not the training."""

    def __bool__(self) -> bool:
        return True


_END_OF_EPOCH = _EndOfEpoch()


@dataclass(frozen=True)
class _Record:
    """Where the feed was when the optimizer had made a number of steps."""

    iterations: int
    epoch: int
    samples: int
    """Samples of the epoch that were used."""
    batch_size: int
    """Samples of a step from there on, over all workers."""


class FeedCheckpoint(Callback):
    """Makes a feed go on where the restored weights were saved.

    It stands beside what saves and restores the model, after it in the list:

        callbacks=[
            keras.callbacks.BackupAndRestore("backup", save_freq=100),
            h5v.callbacks.FeedCheckpoint(train, "backup_feed.json"),
        ]

    When the same script is started again, `fit` gets the samples that had not been used when those
    weights were saved, in the order that they would have had; then the epochs that follow. What was
    read ahead, but not trained on, is not lost. It goes with `ModelCheckpoint` as well, if the
    script loads the newest model with its optimizer and passes `initial_epoch`.

    How many steps the weights have seen is known from their optimizer, which is saved together with
    them: so there is no moment at which a process that is killed leaves the two apart. The file
    says where in the data that was: a small JSON file, written as a whole, once an epoch. Steps in
    between are counted on from there.

    It also pins the order to Keras's numbers of epochs: looking at the dataset before, or in
    between, does not shift it. Each epoch of `fit` must be one pass over the dataset: without
    `repeat` and `steps_per_epoch`, or, with `repeated`, with both.

    With several workers, the first one writes, and all of them read: the file must be where all see
    it. The number of workers and `batch_size` may change from one run to the next.

    Args:
        feed: The training dataset as `video_dataset_from_hdf5` returned it, or its `VideoLoader`.
        filepath: The file, such as `"backup_feed.json"`.
        save_freq: `"epoch"`, or a number of steps: write as often in an epoch as well. This is
            needed only where the optimizer leaves out steps without counting them, as loss scaling
            does in float16.
        delete_checkpoint: Whether to delete the file at the end of training, as `BackupAndRestore`
            does.
        repeated: Whether `fit` is given the dataset with `.repeat()`, and the steps of one pass as
            `steps_per_epoch`, as tf_keras wants it of `distribute_datasets_from_function`. All
            epochs then come from one iterator, which reads on over their ends: the order is pinned
            at the beginning of training only.

    Raises:
        ArgumentError: An argument makes no sense.
        StateError: When training begins: the file was saved over other data, another split or
            another order.
    """

    def __init__(
        self,
        feed: Any,
        filepath: str | os.PathLike[str],
        *,
        save_freq: str | int = "epoch",
        delete_checkpoint: bool = True,
        repeated: bool = False,
    ) -> None:
        self._loader = loader_of(feed)
        if self._loader.batch_size is None:
            raise ArgumentError("FeedCheckpoint counts batches. Received: batch_size=None")
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ArgumentError(
                f'`save_freq` must be "epoch" or a number of steps. Received: {save_freq!r}'
            )
        self._path = Path(filepath)
        self._save_freq = save_freq
        self._delete_checkpoint = delete_checkpoint
        self._repeated = repeated
        self._records: list[_Record] = []
        # The state with which training went on, and the number of steps that its weights had seen.
        self._resumed: dict[str, Any] | None = None
        self._iterations_at_begin = 0
        self._is_first_epoch = True
        self._epoch = 0
        self._samples_at_begin = 0
        self._first_batch: int | None = None
        self._steps_at_save = 0
        if isinstance(save_freq, int):
            self._watch_batches()

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds the position that belongs to the model's weights."""
        del logs
        self._is_first_epoch = True
        self._iterations_at_begin = self._iterations()
        self._resumed = None
        # Records of later steps are of a run whose weights were not saved.
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
        # BackupAndRestore saves the number of the epoch a moment after the weights.
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
        # Not from the start: Keras can be faster if nothing is to be called at each step.
        self.on_train_batch_begin = self._begin_batch
        self.on_train_batch_end = self._end_batch

    def _begin_batch(self, batch: int, logs: Any = None) -> None:
        del logs
        if self._first_batch is None:
            self._first_batch = batch

    def _end_batch(self, batch: int, logs: Any = None) -> None:
        """Saves the position every `save_freq` steps; ends an epoch that went on in its middle."""
        del logs
        steps = batch + 1 - (self._first_batch or 0)
        batch_size = self._loader.global_batch_size
        if isinstance(self._save_freq, int) and steps - self._steps_at_save >= self._save_freq:
            self._steps_at_save = steps
            self._save(self._epoch, self._samples_at_begin + steps * batch_size)
        if self._samples_at_begin and steps >= self._steps_left(self._samples_at_begin, batch_size):
            # Keras counts on whole epochs. Asked for a batch more than there are, its step would
            # fail in its middle, when the optimizer has counted it already.
            self._model.stop_training = _END_OF_EPOCH

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves the position: the beginning of the next epoch."""
        del logs
        if self._model.stop_training is _END_OF_EPOCH:
            self._model.stop_training = False
        self._save(epoch + 1, 0)
        if self._may_pin():
            self._pin(epoch + 1)

    def on_train_end(self, logs: Any = None) -> None:
        """Deletes the file."""
        del logs
        if self._delete_checkpoint and self._loader._order.is_first_worker:
            self._path.unlink(missing_ok=True)

    def _iterations(self) -> int:
        """Steps that the model's weights have seen."""
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is None:
            raise ArgumentError(
                "FeedCheckpoint counts the steps of `model.optimizer`. Received: a model without"
            )
        # A variable of a tf.distribute strategy is no number for `int`.
        return int(optimizer.iterations.numpy())

    def _check_begin(self, epoch: int) -> None:
        """Raises an error if `fit` does not begin where the weights were saved."""
        if self._iterations() != self._iterations_at_begin:
            raise ArgumentError(
                "`callbacks` must have FeedCheckpoint after what restores the model, such as "
                "BackupAndRestore."
            )
        if self._resumed is not None and self._resumed["epoch"] != epoch:
            raise ArgumentError(
                f"`initial_epoch` must be {self._resumed['epoch']}, to which the model's weights "
                f"belong by {self._path}; delete that file to begin anew. Received: {epoch}"
            )

    def _may_pin(self) -> bool:
        # An iterator for all epochs may have begun the next one before this one is at its end.
        return self._is_first_epoch or not self._repeated

    def _pin(self, epoch: int) -> int:
        """Makes the next pass over the data that epoch; returns how many samples it leaves out."""
        if self._resumed is not None and self._resumed["epoch"] == epoch:
            self._loader.load_state_dict(self._resumed)
            return int(self._resumed["samples"])
        self._loader.set_epoch(epoch)
        return 0

    def _position(self, iterations: int) -> tuple[int, int]:
        """The epoch, and how many of its samples were used, after so many steps."""
        record = self._records[-1]
        steps, epoch, samples = iterations - record.iterations, record.epoch, record.samples
        while steps:
            left = self._steps_left(samples, record.batch_size)
            if not left and not samples:
                raise StateError(
                    f"{self._path} was written by a training that had batches of "
                    f"{record.batch_size} samples, of which drop_remainder=True leaves none. "
                    "`drop_remainder` must be as it was then. "
                    f"Received: an epoch of {self._loader.samples_per_epoch} samples"
                )
            if steps < left:
                return epoch, samples + steps * record.batch_size
            steps, epoch, samples = steps - left, epoch + 1, 0
        return epoch, samples

    def _steps_left(self, samples: int, batch_size: int) -> int:
        """Steps of an epoch of which so many samples were used."""
        whole, rest = divmod(self._loader.samples_per_epoch - samples, batch_size)
        return whole + (rest > 0 and not self._loader._options.drop_remainder)

    def _read(self) -> list[_Record]:
        """The records of the file, if there is one."""
        if not self._path.exists():
            return []
        try:
            content = json.loads(self._path.read_text())
            records = [_Record(**record) for record in content["records"]]
            state = content["state"]
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(f"{self._path} is not a file of FeedCheckpoint: {error}") from error
        self._loader.load_state_dict(state)
        return records

    def _save(self, epoch: int, samples: int) -> None:
        record = _Record(self._iterations(), epoch, samples, self._loader.global_batch_size)
        self._records = [*self._records, record][-MAX_RECORDS:]
        if not self._loader._order.is_first_worker:
            return
        content = {
            "state": self._loader.state_at(epoch=epoch, samples=samples),
            "records": [asdict(item) for item in self._records],
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Workers that do not know of each other, having no `input_context`, all write.
        partial = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex}.partial")
        partial.write_text(json.dumps(content))
        os.replace(partial, self._path)
