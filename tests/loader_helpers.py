"""What the tests of loader share with others."""

from __future__ import annotations

import threading


class Own:
    """Follows the protocol, and gives what it likes."""

    def __init__(self, positions):
        self.positions = positions
        self.calls = []

    def epoch(self, epoch):
        self.calls.append((epoch, threading.current_thread()))
        return self.positions
