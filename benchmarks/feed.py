"""Measures the feed against the machine's limit and against a plain generator, in one run.

    python -m benchmarks.feed
    python -m benchmarks.feed --layouts contiguous --at-least 0.8

Both feeds are `tf.data.Dataset`s that give shuffled batches of 32 with the page cache warm, to a
loop inside TensorFlow, as Keras's `fit` is one; the limit is positioned reads of the same samples,
or decoding of the same chunks from memory, by all threads. They take turns of some seconds, the
first round warms up, and medians are reported with the spread (the range of the middle half). The
bytes delivered are verified at first.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .checks import compare, stored_digests
from .contenders import CONTENDERS, Job
from .contenders.ours import LoaderFeed
from .facts import num_processors, warm_cache
from .limits import limit_of
from .measure import Turn, in_turns, spread
from .video_set import add_options, open_sets

BATCH_SIZE = 32

# How long each of them runs in a round, so that it is not the start of an iterator that is
# measured: TensorFlow takes some 50 ms for one.
SECONDS = 3.0

# A plain generator takes minutes for an epoch of a chunked file.
PLAIN_BATCHES = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the measurement; the exit code is 1 if a ratio to the limit is below `--at-least`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.feed", description=(__doc__ or "").split("\n")[0]
    )
    add_options(parser, ["contiguous", "chunked", "gzip", "lzf"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=num_processors())
    parser.add_argument("--at-least", type=float, default=0.0, metavar="RATIO")
    options = parser.parse_args(arguments)
    worst = math.inf
    print("bytes per second in MB/s: median ± half the range of the middle half")
    heads = f"{'limit':>16}{'h5video_data':>16}{'plain':>16}{'of limit':>10}{'x plain':>9}"
    print(f"{'layout':12}{heads}")
    for layout, path, folder in open_sets(options):
        found = _measure(path, layout, folder, options.rounds, options.threads)
        limit, ours, plain = (np.array(speeds) for speeds in found.values())
        ratio, times = float(np.median(ours / limit)), np.median(ours) / np.median(plain)
        worst = min(worst, ratio)
        figures = [spread(speeds / 1e6) for speeds in (limit, ours, plain)]
        text = "".join(f"{middle:9.0f} ±{half:5.0f}" for middle, half in figures)
        print(f"{layout:12}{text}{ratio:10.2f}{times:9.1f}", flush=True)
    return int(worst < options.at_least)


def _measure(
    path: str, layout: str, folder: str, rounds: int, num_threads: int
) -> dict[str, list[float]]:
    """Bytes per second in each round: of the limit, of this package, of the plain generator."""
    job = replace(Job.of_file(path, folder, BATCH_SIZE), num_threads=num_threads)
    batch_bytes = job.batch_bytes
    limit = limit_of(path, job.batches(0), num_threads=num_threads)
    assert limit is not None
    measure, feed, epochs = limit.measure, LoaderFeed(job), 1
    ours: Any = feed.batches

    def drain(dataset: Any) -> float:
        # Inside TensorFlow, as Keras's fit does it: a loop in Python costs time of its own.
        begin = time.perf_counter()
        num_batches = int(dataset.reduce(np.int64(0), lambda count, *_: count + 1))
        return num_batches * batch_bytes / (time.perf_counter() - begin)

    def drain_ours() -> float:
        nonlocal epochs
        # Batches that were prefetched at the end of the round before would be a gift.
        feed.start_turn()
        speed = drain(ours.repeat(epochs))
        epochs = math.ceil(SECONDS * speed / (job.steps * batch_bytes))
        return speed

    def repeat_limit() -> float:
        begin = time.perf_counter()
        speeds = [measure()]
        while time.perf_counter() - begin < SECONDS / 2:
            speeds.append(measure())
        return statistics.harmonic_mean(speeds)

    with feed.loader, CONTENDERS["plain"].open(job) as plain:
        delivered = feed.take_turn(Turn(max_seconds=math.inf, with_digests=True)).digests
        compare(delivered, stored_digests(path, job.num_samples), is_whole_epoch=True)
        warm_cache(path)
        dataset: Any = plain.batches
        dataset = dataset if layout == "contiguous" else dataset.take(PLAIN_BATCHES)
        measures: dict[str, Callable[[], float]] = {
            "limit": repeat_limit, "h5video_data": drain_ours, "plain": lambda: drain(dataset),
        }  # fmt: skip
        return in_turns(measures, rounds)


if __name__ == "__main__":
    sys.exit(main())
