"""Compares what `inspect --probe` predicts with what the feed gives, in one run.

    python -m benchmarks.predictions --layouts all

Of each layout: the samples per second that a probe, in a process of its own, predicts, and those
of the dataset, in shuffled batches of 32 with the page cache warm, as `benchmarks.feed` measures
them. They take turns, the first round warms up, and the ratio is the median of the rounds' own.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from .contenders import Job
from .contenders.ours import LoaderFeed
from .facts import warm_cache
from .measure import in_turns, spread
from .video_set import make_parser, open_sets, positive_integer

BATCH_SIZE = 32


def predicted(path: str) -> float:
    """Returns the samples per second that a probe of a file predicts."""
    command = [sys.executable, "-m", "h5video_data", "inspect", path, "--probe", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout)["samples_per_second"])


def measure(path: str, seconds: float, rounds: int) -> dict[str, list[float]]:
    """Returns samples per second, predicted and measured, in each round."""
    warm_cache(path)
    job = Job.of_file(path, "", BATCH_SIZE)
    feed, epochs = LoaderFeed(job), 1
    batches: Any = feed.batches

    def drain() -> float:
        nonlocal epochs
        feed.start_turn()
        begin = time.perf_counter()
        dataset = batches.repeat(epochs)
        count = int(dataset.reduce(np.int64(0), lambda count, *_: count + 1)) * BATCH_SIZE
        speed = count / (time.perf_counter() - begin)
        epochs = math.ceil(seconds * speed / (job.steps * BATCH_SIZE))
        return speed

    with feed.loader:
        return in_turns({"predicted": lambda: predicted(path), "measured": drain}, rounds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and prints a row for each layout."""
    parser = make_parser("benchmarks.predictions", __doc__, ["all"])
    parser.add_argument("--rounds", type=positive_integer, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of the dataset, in each round")
    options = parser.parse_args(arguments)
    print(f"{'layout':12}{'predicted':>18}{'measured':>18}{'ratio':>8}")
    for layout, path, _ in open_sets(options):
        found = measure(path, options.seconds, options.rounds)
        ratio = np.median(np.array(found["predicted"]) / np.array(found["measured"]))
        texts = ["{:,.0f} ± {:,.0f}".format(*spread(speeds)) for speeds in found.values()]
        print(f"{layout:12}{texts[0]:>18}{texts[1]:>18}{ratio:8.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
