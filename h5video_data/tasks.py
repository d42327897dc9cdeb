"""Threads that run tasks for the main thread, which Ctrl-C may interrupt anywhere.

A KeyboardInterrupt comes between any two steps of the main thread's Python, in the middle of
`concurrent.futures` and `threading.Condition` too: their locks then stay held, and a thread that
needs one waits for ever. Here, all that threads share is an object that C code keeps whole: a
`SimpleQueue`, a plain lock, a list's `pop`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# How long the end of the process waits for a task that has begun: for a thread that runs on in C
# while the interpreter goes, things end badly.
EXIT_SECONDS = 10.0


class Task(Generic[T]):
    """A call that a thread will make, and its outcome; like a `concurrent.futures.Future`."""

    def __init__(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        # Whoever takes it out decides what becomes of it: a thread that runs it, or `cancel`.
        self._call = [(function, arguments)]
        self._value: T | None = None
        self._error: BaseException | None = None
        self._pending = threading.Lock()
        self._pending.acquire()

    def run(self) -> None:
        """Makes the call, unless it was cancelled."""
        try:
            function, arguments = self._call.pop()
        except IndexError:
            return
        pending = self._pending
        try:
            self._value = function(*arguments)
        except BaseException as error:
            self._error = error
            # The error holds this frame, which must not hold the task: that would be a cycle.
            del self, arguments
        finally:
            pending.release()

    def cancel(self) -> None:
        """Drops the call, unless it has begun: whoever waits for it gets a CancelledError."""
        with contextlib.suppress(IndexError):
            self._call.pop()
            self._error = CancelledError()
            self._pending.release()

    def exception(self) -> BaseException | None:
        """What the call raised, when it is done; None if nothing."""
        with self._pending:
            return self._error

    def result(self) -> T:
        """What the call returned, when it is done.

        Raises:
            CancelledError: It was cancelled.
            BaseException: What the call raised.
        """
        with self._pending:
            pass
        try:
            if self._error is not None:
                raise self._error
            return self._value  # type: ignore[return-value]
        finally:
            del self  # see `run`


class Threads:
    """A fixed number of threads that run tasks, in the order in which these were submitted.

    They start with the first task. They end when this is closed or collected, and at the end of the
    process: there, what has not begun is cancelled, and what has begun is waited for. Threads do
    not cross a fork.

    Args:
        count: How many.
        name: What their names begin with.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._tasks: SimpleQueue[Task[Any] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        # Not empty if it is closed: the threads look into it as well.
        self._closed: list[bool] = []
        # `put` may be called at any point of any thread.
        weakref.finalize(self, self._tasks.put, None).atexit = False
        _all.add(self)

    def submit(self, function: Callable[..., T], *arguments: Any) -> Task[T]:
        """Has a thread call a function.

        Returns:
            The task; it is cancelled if the threads are closed.
        """
        if len(self._threads) < self._count:
            self._start()
        task = Task(function, arguments)
        self._tasks.put(task)
        if self._closed:  # now, or before
            task.cancel()
        return task

    def _start(self) -> None:
        with self._lock:
            while len(self._threads) < self._count and not self._closed:
                # Not one that Python itself waits for, before it has told anybody to end.
                thread = threading.Thread(
                    target=_work,
                    args=(self._tasks, self._closed),
                    name=f"{self._name}_{len(self._threads)}",
                    daemon=True,
                )
                # This is Python's own, and not safe: if it is interrupted, there is one more.
                thread.start()
                self._threads.append(thread)

    def close(self, seconds: float | None = None) -> None:
        """Cancels what has not begun, and waits until the threads have ended.

        Args:
            seconds: How long to wait for them; None: as long as it takes.
        """
        self._closed.append(True)
        self._tasks.put(None)
        deadline = None if seconds is None else time.monotonic() + seconds
        for thread in [*self._threads]:
            if thread is not threading.current_thread():
                thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))


_all: weakref.WeakSet[Threads] = weakref.WeakSet()


def _work(tasks: SimpleQueue[Task[Any] | None], closed: list[bool]) -> None:
    while (task := tasks.get()) is not None:
        if closed:
            task.cancel()
        task.run()
        # What it holds goes now, not when the next one comes.
        del task
    tasks.put(None)  # for the next thread


@atexit.register
def _close_all() -> None:
    deadline = time.monotonic() + EXIT_SECONDS
    everyone = [*_all]
    for threads in everyone:
        threads.close(0.0)  # all of them know, before any is waited for
    for threads in everyone:
        threads.close(max(0.0, deadline - time.monotonic()))


os.register_at_fork(after_in_child=_all.clear)
