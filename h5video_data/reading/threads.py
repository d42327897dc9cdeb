"""Threads that run tasks for the main thread, which Ctrl-C may interrupt anywhere.

A KeyboardInterrupt comes between any two steps of the main thread's Python, in the middle of
`concurrent.futures` and `threading.Condition` too: their locks then stay held, and a thread that
needs one waits for ever. Here, all that threads share is an object that C code keeps whole: a
`SimpleQueue`, a plain lock, a list's `pop`.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from h5video_data.errors import ReadError
from h5video_data.storage.system import at_fork

T = TypeVar("T")

_log = logging.getLogger(__name__)

# How long the end of the process waits for a task that has begun: for a thread that runs on in C
# while the interpreter is torn down can crash the process.
EXIT_SECONDS = 10.0


class Task(Generic[T]):
    """A call that a thread will make, and its outcome; like a `concurrent.futures.Future`."""

    def __init__(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        # Taken out once: by the thread that runs it, or by `cancel`.
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

    def fail(self, error: BaseException) -> None:
        """Gives an error to those who wait, unless the call has been made."""
        with contextlib.suppress(IndexError):
            self._call.pop()
            self._error = error
            self._pending.release()

    def cancel(self) -> None:
        """Cancels the call, unless it has begun: those who wait get a CancelledError."""
        self.fail(CancelledError())

    def exception(self) -> BaseException | None:
        """Waits for the call; returns what it raised, or None."""
        with self._pending:
            return self._error

    def result(self) -> T:
        """Waits for the call, and returns its result.

        Raises:
            CancelledError: It was cancelled.
            ReadError: The call raised a SystemExit or the like, which is its cause: by itself it
                would end the thread that waits without a message.
            Exception: What the call raised.
        """
        with self._pending:
            pass
        try:
            if isinstance(self._error, Exception):
                raise self._error
            if self._error is not None:
                raise ReadError(f"A task was told to end: {self._error!r}") from self._error
            return self._value  # type: ignore[return-value]
        finally:
            del self  # see `run`


class Threads:
    """A fixed number of threads that run tasks, in the order in which these were submitted.

    They start with the first task. If the system refuses one, there are fewer; if there is none at
    all, `submit` runs the tasks. They end when this is closed or collected, and at the end of the
    process: what has not begun is cancelled then, and the end of the process waits for what has
    begun. Threads do not cross a fork.

    Args:
        count: The number of threads.
        name: The beginning of their names.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._tasks: SimpleQueue[Task[Any] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        # Not empty if it is closed: the threads look into it as well.
        self._closed: list[bool] = []
        # Takes no lock: it may be called at any point of any thread.
        weakref.finalize(self, _end, self._tasks, self._closed).atexit = False

    def submit(self, function: Callable[..., T], *arguments: Any) -> Task[T]:
        """Has a thread call a function.

        Returns:
            The task; it is cancelled if the threads are closed.
        """
        if len(self._threads) < self._count:
            self._start()
        task = Task(function, arguments)
        if not self._count and not self._closed:
            task.run()
            return task
        self._tasks.put(task)
        if self._closed:  # now, or before
            task.cancel()
        return task

    def _start(self) -> None:
        with self._lock:
            if _ending and threading.current_thread() is threading.main_thread():
                self._count = 0  # a function that was registered with atexit
            elif _ending:
                self._closed.append(True)
            while len(self._threads) < self._count and not self._closed:
                # Not one that Python itself waits for, before it has told anybody to end.
                thread = threading.Thread(
                    target=_work,
                    args=(self._tasks, self._closed),
                    name=f"{self._name}_{len(self._threads)}",
                    daemon=True,
                )
                try:
                    _start(thread, self._tasks, self._closed)
                except RuntimeError as error:
                    self._settle_for_fewer(error)
                else:
                    self._threads.append(thread)

    def _settle_for_fewer(self, error: RuntimeError) -> None:
        _log.warning(
            "Only %d of %d threads for reading could be started, so reading is slower: %s. "
            "A process may have as many threads as `ulimit -u`, the container's limit of pids, and "
            "its memory allow.",
            len(self._threads),
            self._count,
            error,
        )
        self._count = len(self._threads)

    def close(self) -> None:
        """Cancels what has not begun, and waits until the threads have ended."""
        _end(self._tasks, self._closed)
        for thread in [*self._threads]:
            if thread is not threading.current_thread():
                thread.join()


# Every thread that was started and may still run, even if its `Threads` was collected, and what
# tells it to end.
_started: dict[threading.Thread, tuple[SimpleQueue[Task[Any] | None], list[bool]]] = {}

# Not empty once the process ends.
_ending: list[bool] = []

# Stands for each generator of `run_by_others` that has not ended.
_run_by_others: dict[object, None] = {}

# How long the end of the process waits for these; some of them, nobody asks for more.
OTHERS_SECONDS = 0.5


def is_process_ending() -> bool:
    """Tells if the process is ending: all threads have been told to end."""
    return bool(_ending)


def run_by_others(make: Callable[[], Iterator[T]]) -> Callable[[], Iterator[T]]:
    """Makes a generator function one that threads of C code may run until the process ends.

    When the interpreter goes, it ends each thread that is in Python, or comes there. So, once the
    process ends, the generators give nothing more, but for one error, and get a moment to do so.
    (`tfdata.process_end` sees to it that nobody waits for those that take longer.)
    """
    has_failed: list[bool] = []

    def run() -> Iterator[T]:
        if has_failed:
            return
        key = object()
        _run_by_others[key] = None
        try:
            yield from make()
        except BaseException:
            if _ending:
                has_failed.append(True)
            raise
        finally:
            _run_by_others.pop(key, None)

    return run


def _start(
    thread: threading.Thread, tasks: SimpleQueue[Task[Any] | None], closed: list[bool]
) -> None:
    for other in [*_started]:
        if other.ident is not None and not other.is_alive():
            _started.pop(other, None)
    _started[thread] = (tasks, closed)
    try:
        # This is Python's own, and not safe: if it is interrupted, there is one more.
        thread.start()
    except RuntimeError:
        del _started[thread]
        raise


def _end(tasks: SimpleQueue[Task[Any] | None], closed: list[bool]) -> None:
    """Tells threads to end, and to cancel what they find before they do."""
    closed.append(True)
    tasks.put(None)


def _work(tasks: SimpleQueue[Task[Any] | None], closed: list[bool]) -> None:
    while (task := tasks.get()) is not None:
        try:
            if closed:
                task.cancel()
            task.run()
        except BaseException as error:  # even a call can fail for want of memory
            task.fail(error)
        # What it holds goes now, not when the next one comes.
        del task
    tasks.put(None)  # for the next thread


@atexit.register
def _end_all() -> None:
    deadline = time.monotonic() + EXIT_SECONDS
    _ending.append(True)
    for tasks, closed in [*_started.values()]:
        _end(tasks, closed)  # all of them know, before any is waited for
    while (seconds := deadline - time.monotonic()) > 0:
        alive = [(thread, told) for thread, told in [*_started.items()] if thread.is_alive()]
        if not alive:
            break
        thread, told = alive[0]
        _end(*told)  # it may have been started a moment ago
        thread.join(seconds)
    if _run_by_others:
        deadline = time.monotonic() + OTHERS_SECONDS
        while _run_by_others and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)  # what calls them has to come out of Python as well


def _forget_all() -> None:
    _started.clear()
    _run_by_others.clear()


at_fork(after_in_child=_forget_all)
