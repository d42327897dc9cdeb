"""Makes races more likely, and their results visible.

In a whole run of the tests with H5VIDEO_RACES=1, and always in `test_exactly_once`.
"""

import random
import time

from h5video_data.reading import buffers, threads

POISON = 0xA5


def install():
    """Poisons blocks when they come back, and delays tasks of threads at random."""
    give_back, run, draw = buffers._give_back, threads.Task.run, random.Random(0)

    def poisoned(free, block, max_kept):
        block[...] = POISON
        give_back(free, block, max_kept)

    def delayed(self):
        if draw.random() < 0.2:
            time.sleep(draw.random() * 0.002)
        try:
            run(self)
        finally:
            del self  # a traceback may keep this frame, and the task has the error

    def restore():
        buffers._give_back, threads.Task.run = give_back, run

    buffers._give_back, threads.Task.run = poisoned, delayed
    return restore
