"""Keras callbacks about the feed: where it stands, and whether training waits for it.

They go with Keras 3, with any of its backends, and with tf_keras.
"""

from __future__ import annotations

from .checkpointing import FeedCheckpoint
from .monitoring import EpochReport, FeedMonitor

__all__ = ["EpochReport", "FeedCheckpoint", "FeedMonitor"]
