"""The end of the interpreter while TensorFlow runs Python in threads of its own."""

import subprocess
import sys

import pytest

from h5video_data.testing import write_video_file

pytestmark = [pytest.mark.tf, pytest.mark.slow]

# In a module of its own: a function of the script would keep the script's variables, and so the
# iterator, beyond the end of the interpreter.
SLOW = """
import time
from h5video_data.reading.prefetcher import Prefetcher

bundles = Prefetcher.bundles

def slow_bundles(self, plan):
    for number, bundle in enumerate(bundles(self, plan)):
        if number:
            time.sleep(2)  # longer than the end of the process waits
        yield bundle

Prefetcher.bundles = slow_bundles
"""

SCRIPT = """
import sys
import tensorflow as tf
import h5video_data as h5v
import slow

dataset = h5v.video_dataset_from_hdf5(sys.argv[1], batch_size=5, read_ahead_bytes=0)
iterator = iter({how})
next(iterator)
print("the end")
"""

WAYS = {
    "an epoch": "dataset",
    "another stage": "dataset.map(lambda x, y: (x, y))",
    "all epochs": "dataset.repeat()",
    "a strategy": "tf.distribute.MirroredStrategy(['CPU:0']).experimental_distribute_dataset("
    "dataset)",
}


@pytest.mark.parametrize("way", WAYS)
def test_an_iterator_that_waits_for_python(tmp_path, way):
    path = write_video_file(tmp_path / "a.h5", num_samples=40)
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "script.py").write_text(SCRIPT.format(how=WAYS[way]))
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", path],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "the end\n"), done.stderr
    assert "Traceback" not in done.stderr
