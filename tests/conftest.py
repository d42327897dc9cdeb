import threading

import pytest
from hypothesis import HealthCheck, settings

# However long an example takes: the machine may be busy.
settings.register_profile("any load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any load")


@pytest.fixture
def new_threads():
    """Gives the threads of the package that the test has started and that still run."""

    def threads():
        return {thread for thread in threading.enumerate() if "h5video_data" in thread.name}

    before = threads()
    return lambda: threads() - before
