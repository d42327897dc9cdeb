"""What Keras callbacks about a feed have in common. Needs no Keras, so it suits all of them."""

from __future__ import annotations

from typing import Any

from h5video_data.errors import ArgumentError
from h5video_data.loader import VideoLoader


def loader_of(feed: Any) -> VideoLoader:
    """The loader behind a dataset of this package, or the loader itself.

    Raises:
        ArgumentError: It is neither.
    """
    loader = getattr(feed, "loader", feed)
    if not isinstance(loader, VideoLoader):
        raise ArgumentError(
            "`feed` must be a VideoLoader, or a dataset as video_dataset_from_hdf5 returned it: "
            f"what was made of it by map, repeat and the like does not know. Received: {feed!r}"
        )
    return loader


def _hook(*_: Any, **__: Any) -> None:
    """Does nothing."""


# Keras 3 asks this of each hook, to see whether it must wait for the accelerator before calling it.
_hook._is_default = True  # type: ignore[attr-defined]


class Callback:
    """A Keras callback whose hooks do nothing, for Keras 3 with any backend, and for tf_keras."""

    params: dict[str, Any] | None = None
    _model: Any = None
    _supports_tf_logs = True

    on_train_begin = on_train_end = on_epoch_begin = on_epoch_end = staticmethod(_hook)
    on_batch_begin = on_batch_end = on_train_batch_begin = on_train_batch_end = staticmethod(_hook)
    on_test_begin = on_test_end = on_test_batch_begin = on_test_batch_end = staticmethod(_hook)
    on_predict_begin = on_predict_end = staticmethod(_hook)
    on_predict_batch_begin = on_predict_batch_end = staticmethod(_hook)

    def set_params(self, params: dict[str, Any] | None) -> None:
        """Called by Keras."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Called by Keras."""
        self._model = model

    @property
    def model(self) -> Any:
        """The model that is trained, with its state of now."""
        # With JAX, Keras keeps the state elsewhere while an epoch lasts.
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
