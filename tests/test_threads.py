import contextlib
import functools
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError

import h5py
import pytest
from conftest import package_threads, wait_until
from odd_types import nine_bits

from h5video_data.errors import ClosedError, ReadError
from h5video_data.reading import threads as tasks
from h5video_data.reading.threads import Task, Threads


@pytest.fixture
def threads():
    made = Threads(2, "test_threads")
    yield made
    made.close()


def all_gone(references):
    return all(reference() is None for reference in references)


def running():
    return package_threads("test_threads")


def test_outcomes(threads):
    assert not running()  # before the first task
    assert threads.submit(divmod, 7, 2).result() == (3, 1)
    assert {thread.name for thread in running()} == {"test_threads_0", "test_threads_1"}
    failing = threads.submit(divmod, 7, 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failing.result()
    assert type(failing.exception()) is ZeroDivisionError
    assert threads.submit(print).exception() is None
    # A thread outlives whatever a task raises.
    for _ in range(4):
        with pytest.raises(ReadError, match=r"told to end: SystemExit") as raised:
            threads.submit(sys.exit).result()
        assert type(raised.value.__cause__) is SystemExit
    assert threads.submit(int, "3").result() == 3


def test_tasks_begin_in_order_and_run_at_once(threads):
    both = threading.Barrier(2)
    assert {threads.submit(both.wait, 60).result() for _ in [threads.submit(both.wait, 60)]} <= {
        0,
        1,
    }
    held = threading.Event()
    begun = []
    blocking = [threads.submit(held.wait, 60) for _ in range(2)]
    later = [threads.submit(begun.append, i) for i in range(50)]
    time.sleep(0.05)
    assert not begun
    held.set()
    assert all(task.result() for task in blocking)
    for task in later:
        task.result()
    assert sorted(begun) == list(range(50))


def test_what_has_not_begun_can_be_cancelled(threads):
    held, ran = threading.Event(), []
    blocking = [threads.submit(held.wait, 60) for _ in range(2)]
    wait_until(lambda: not any(task._call for task in blocking))
    task = threads.submit(ran.append, 1)
    for each in (task, blocking[0], task):
        each.cancel()
    with pytest.raises(CancelledError):
        task.result()
    held.set()
    assert blocking[0].result() is True
    assert threads.submit(len, "ab").result() == 2
    assert not ran


def test_close():
    threads, held, ran = Threads(1, "test_threads"), threading.Event(), []
    begun = threads.submit(held.wait, 60)
    waiting = threads.submit(ran.append, 1)
    wait_until(lambda: not begun._call)

    def end_the_first_once_they_are_closed():
        wait_until(lambda: threads._closed)
        held.set()

    ending = threading.Thread(target=end_the_first_once_they_are_closed)
    ending.start()
    threads.close()
    ending.join()
    assert not running()
    assert begun.result() is True
    for task in (waiting, threads.submit(ran.append, 2)):
        with pytest.raises(CancelledError):
            task.result()
    threads.close()
    assert not ran
    assert not running()


def test_closed_by_one_of_them():
    threads, begun, held = Threads(2, "test_threads"), threading.Event(), threading.Event()
    other = threads.submit(lambda: begun.set() or held.wait(60))
    assert begun.wait(60)
    closing = threads.submit(threads.close)
    wait_until(lambda: threads._closed)
    held.set()
    assert closing.result() is None
    assert other.result() is True
    with pytest.raises(CancelledError):
        threads.submit(len, "").result()
    wait_until(lambda: not running())


def test_threads_that_are_dropped_end():
    threads = Threads(3, "test_threads")
    threads.submit(len, "").result()
    assert len(running()) == 3
    del threads
    wait_until(lambda: not running())


def test_nothing_outlives_its_task(threads):
    class Thing:
        def fail(self):
            raise ValueError

    gc.disable()  # nor is it in a cycle
    try:
        for outcome in (Task.exception, Task.result):
            thing = Thing()
            left = weakref.ref(thing)
            task = threads.submit(thing.fail)
            del thing
            with contextlib.suppress(ValueError):
                outcome(task)
            references = [left, weakref.ref(task)]
            del task
            wait_until(functools.partial(all_gone, references))
    finally:
        gc.enable()


def interrupt_at(number):
    """Has the main thread interrupted before its n-th instruction from now on."""

    def trace(frame, event, _):
        nonlocal number
        frame.f_trace_opcodes = True
        if event == "opcode":
            number -= 1
            if number < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    # Python 3.12.1 looks when the trace is set whether any frame has wanted instructions yet.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(trace)


def is_interrupted(function, number):
    """Calls a function, and has the main thread interrupted before its n-th instruction."""
    gc.disable()  # Hypothesis has it call a function, in which an interrupt is a warning
    before = sys.gettrace()  # that of a debugger, or of what counts the lines that tests take
    interrupt_at(number)
    try:
        function()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
        gc.enable()
    return False


def test_an_interrupt_at_any_point_of_the_main_thread_leaves_the_threads_whole(threads):
    def use():
        task = threads.submit(time.sleep, 0)
        time.sleep(0.001)  # so that it is done, or not
        task.exception()
        task.result()
        threads.submit(time.sleep, 0).cancel()

    use()
    num_interrupts = 0
    while is_interrupted(use, num_interrupts):
        num_interrupts += 1
        both = threading.Barrier(2)  # both threads go on
        tasks = [threads.submit(both.wait, 60) for _ in range(2)]
        assert {task.result() for task in tasks} == {0, 1}
    assert num_interrupts > 100


def test_an_interrupt_while_they_are_closed():
    num_interrupts, is_over = 0, False
    while not is_over:
        threads = Threads(2, "test_threads")
        tasks = [threads.submit(time.sleep, 0) for _ in range(9)]
        is_over = not is_interrupted(threads.close, num_interrupts)
        num_interrupts += 1
        tasks.append(threads.submit(time.sleep, 0))
        threads.close()
        assert not any(thread.is_alive() for thread in threads._threads)
        for task in tasks:
            task.exception()  # it is done, or cancelled
    assert num_interrupts > 50


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_after_a_fork():
    script = """
import os, sys, time
from h5video_data.reading.threads import Threads
threads = Threads(2, "t")
tasks = [threads.submit(time.sleep, 0.2) for _ in range(9)]
child = os.fork()
if not child:
    others = Threads(2, "t")
    assert others.submit(len, "ab").result() == 2
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
for task in tasks:
    task.result()
"""
    command = [sys.executable, "-W", "ignore", "-c", script]  # Python 3.12 warns of a fork
    done = subprocess.run(command, timeout=250, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_at_the_end_of_the_process_what_has_begun_ends_and_nothing_else_begins():
    script = """
import os, threading, time
from h5video_data.reading.threads import Threads
threads = Threads(2, "t")
def work(i):
    os.write(1, b"begin\\n")
    time.sleep(0.3)
    os.write(1, b"end\\n")
tasks = [threads.submit(work, i) for i in range(100)]
# Threads that Python waits for may still use it.
threading.Thread(target=lambda: [time.sleep(0.1), tasks[2].result()]).start()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], timeout=250, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.split()
    assert lines.count("begin") == lines.count("end")
    assert 3 <= lines.count("end") < 100  # 5 where nothing else runs


def test_the_end_of_the_process_waits_for_all_threads_together():
    script = """
import time
from h5video_data.reading import threads as tasks
tasks.EXIT_SECONDS = 1.0
pools = [tasks.Threads(2, "t") for _ in range(20)]
for pool in pools:
    for _ in range(2):
        pool.submit(time.sleep, 60)
time.sleep(0.2)
print(time.time())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], timeout=250, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert 1 < time.time() - float(done.stdout) < 15  # 20 if each pool were waited for


@pytest.mark.parametrize("num_possible", [0, 1, 2])
def test_fewer_threads_than_wanted(monkeypatch, caplog, num_possible):
    start, started = threading.Thread.start, []

    def start_if_possible(thread):
        if len(started) == num_possible:
            raise RuntimeError("can't start new thread")
        start(thread)
        started.append(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_possible)
    threads = Threads(3, "test_threads")
    assert [threads.submit(divmod, i, 7).result() for i in range(9)] == [
        divmod(i, 7) for i in range(9)
    ]
    assert type(threads.submit(divmod, 1, 0).exception()) is ZeroDivisionError
    assert len(running()) == num_possible
    threads.close()
    with pytest.raises(CancelledError):
        threads.submit(len, "").result()
    assert not running()
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith(f"Only {num_possible} of 3 threads for reading could be started")
    assert "can't start new thread" in message
    assert "ulimit -u" in message


@pytest.mark.parametrize("kind", [MemoryError, SystemExit, KeyboardInterrupt])
def test_a_thread_outlives_a_task_that_cannot_even_be_called(threads, monkeypatch, kind):
    run, fails = Task.run, [True, True]

    def run_if_possible(task):
        if fails:
            fails.pop()
            raise kind
        run(task)

    monkeypatch.setattr(Task, "run", run_if_possible)
    tasks = [threads.submit(int, str(i)) for i in range(6)]
    errors = [error for error in map(Task.exception, tasks) if error is not None]
    assert [type(error) for error in errors] == [kind, kind]
    assert len(running()) == 2


def test_tasks_of_dropped_threads_do_not_begin():
    threads, held, ran = Threads(1, "test_threads"), threading.Event(), []
    begun = threads.submit(held.wait, 60)
    later = [threads.submit(ran.append, i) for i in range(3)]
    wait_until(lambda: not begun._call)
    del threads
    held.set()
    assert begun.result() is True
    for task in later:
        with pytest.raises(CancelledError):
            task.result()
    wait_until(lambda: not running())
    assert not ran


def run_script(script, *arguments):
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, timeout=250, capture_output=True, text=True)


def test_the_end_of_the_process_waits_for_threads_that_were_dropped():
    done = run_script("""
import os, threading, time
from h5video_data.reading.threads import Threads
dropped = threading.Event()
def work(i):
    os.write(1, b"begin\\n")
    dropped.wait()
    time.sleep(0.5)
    os.write(1, b"end\\n")
threads = Threads(1, "t")
tasks = [threads.submit(work, i) for i in range(9)]
while tasks[0]._call:
    time.sleep(0.01)
del threads
dropped.set()
""")
    assert (done.stdout, done.stderr, done.returncode) == ("begin\nend\n", "", 0)


def test_the_process_ends_while_other_threads_iterate(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", (4000, 5000), nine_bits(file))[...] = 1
    done = run_script(
        """
import atexit, sys, threading, time
def late():
    for name, new in ("old", loaders[0]), ("new", h5v.VideoLoader(sys.argv[1], y=None)):
        try:
            print(name, sum(len(x) for x in new))
        except h5v.errors.ClosedError as error:
            print(name, error)
atexit.register(late)
import h5video_data as h5v
def run(loader):
    while True:
        for x in loader:
            loaders.append(loader)
loaders = []
for _ in range(3):
    loader = h5v.VideoLoader(sys.argv[1], y=None, batch_size=4)
    threading.Thread(target=run, args=(loader,), daemon=True).start()
while len(loaders) < 9:
    time.sleep(0.01)
""",
        str(tmp_path / "a.h5"),
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == "old The process is ending during iteration.\nnew 4000\n"
    assert (done.stderr, done.returncode) == ("", 0)


def test_what_others_run_gives_one_error_and_then_nothing_at_the_end_of_the_process(monkeypatch):
    def numbers():
        yield 1
        if tasks._ending:
            raise ClosedError
        yield 2

    monkeypatch.setattr(tasks, "_ending", [])
    make = tasks.run_by_others(numbers)
    assert list(make()) == [1, 2]
    assert list(make()) == [1, 2]
    suspended, other = make(), make()
    assert (next(suspended), next(other)) == (1, 1)
    assert len(tasks._run_by_others) == 2
    del other
    assert len(tasks._run_by_others) == 1
    tasks._ending.append(True)
    with pytest.raises(ClosedError):
        next(suspended)
    assert list(make()) == []
    assert not tasks._run_by_others
