"""Base class of the callbacks. It does not import Keras, so it suits Keras 3 and tf_keras alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h5video_data.errors import ArgumentError
from h5video_data.loader import VideoLoader

if TYPE_CHECKING:
    import tensorflow as tf  # noqa: TID251 - only for the annotation


def loader_of(feed: tf.data.Dataset | VideoLoader) -> VideoLoader:
    """Returns the loader behind a dataset of this package, or the loader itself."""
    loader = getattr(feed, "loader", feed)
    if not isinstance(loader, VideoLoader):
        raise ArgumentError(
            "`feed` must be a VideoLoader, or the dataset that video_dataset_from_hdf5 returned: "
            "datasets made from it by map, repeat and the like have no loader. "
            f"Received: feed={feed!r}"
        )
    return loader


def _hook(*_: Any, **__: Any) -> None:
    """Does nothing."""


# Keras 3 reads this attribute: it need not wait for the accelerator before it calls such a hook.
_hook._is_default = True  # type: ignore[attr-defined]


class Callback:
    """Keras callback whose hooks do nothing, for Keras 3 with any backend, and for tf_keras."""

    params: dict[str, Any] | None = None
    _model: Any = None
    _supports_tf_logs = True

    on_train_begin = on_train_end = on_epoch_begin = on_epoch_end = staticmethod(_hook)
    on_batch_begin = on_batch_end = on_train_batch_begin = on_train_batch_end = staticmethod(_hook)
    on_test_begin = on_test_end = on_test_batch_begin = on_test_batch_end = staticmethod(_hook)
    on_predict_begin = on_predict_end = staticmethod(_hook)
    on_predict_batch_begin = on_predict_batch_end = staticmethod(_hook)

    def set_params(self, params: dict[str, Any] | None) -> None:
        """Sets the parameters of the training; called by Keras."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Sets the model; called by Keras."""
        self._model = model

    @property
    def model(self) -> Any:
        """The model that is trained, in its current state."""
        # With JAX, Keras keeps the state outside the model during an epoch.
        if hasattr(self._model, "jax_state_sync"):
            self._model.jax_state_sync()
        return self._model

    def _implements_train_batch_hooks(self) -> bool:
        return not (
            getattr(self.on_train_batch_begin, "_is_default", False)
            and getattr(self.on_train_batch_end, "_is_default", False)
        )

    def _implements_test_batch_hooks(self) -> bool:
        return False

    def _implements_predict_batch_hooks(self) -> bool:
        return False
