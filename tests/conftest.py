import threading

import pytest


@pytest.fixture
def new_threads():
    """Gives the threads of the package that the test has started and that still run."""

    def threads():
        return {thread for thread in threading.enumerate() if "h5video_data" in thread.name}

    before = threads()
    return lambda: threads() - before
