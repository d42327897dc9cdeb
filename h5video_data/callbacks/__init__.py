"""Keras callbacks: resume the data with the model, and measure whether training waits for it.

They work with Keras 3, with any backend, and with tf_keras.
"""

from __future__ import annotations

from .checkpointing import FeedCheckpoint
from .monitoring import EpochReport, FeedMonitor

__all__ = ["EpochReport", "FeedCheckpoint", "FeedMonitor"]
