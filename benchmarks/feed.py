"""Measures the feed against the machine's limit and against a plain generator, in one run.

    python -m benchmarks.feed --layouts contiguous gzip

Both feeds are `tf.data.Dataset`s that give shuffled batches of 32 with the page cache warm, to a
loop inside TensorFlow, as Keras's `fit` is one; the limit is positioned reads of the same samples,
or decoding of the same chunks from memory, by all threads. Of files that are decoded, a second
limit reads each chunk before: what is left to gain for whoever has no copy of them in memory. They
take turns of some seconds, the first round warms up, and medians are reported with the spread (the
range of the middle half). The bytes delivered are verified at first.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .checks import compare, stored_digests
from .contenders import CONTENDERS, Job
from .contenders.ours import LoaderFeed
from .facts import warm_cache
from .limits import limit_of
from .measure import Turn, in_turns, spread
from .report import megabytes
from .video_set import make_parser, open_sets, positive_integer

BATCH_SIZE = 32

# How long each of them runs in a round, so that it is not the start of an iterator that is
# measured: TensorFlow takes some 50 ms for one.
SECONDS = 3.0

# A plain generator takes minutes for an epoch of a chunked file.
PLAIN_BATCHES = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and prints a row for each layout."""
    layouts = ["contiguous", "chunked", "gzip", "lzf"]
    parser = make_parser("benchmarks.feed", __doc__, layouts)
    parser.add_argument("--rounds", type=positive_integer, default=5)
    options = parser.parse_args(arguments)
    print("bytes per second in MB/s: median ± half the range of the middle half")
    heads = f"{'limit':>16}{'h5video_data':>16}{'plain':>16}{'of limit':>10}{'x plain':>9}"
    print(f"{'layout':12}{heads}{'with reads':>12}")
    for layout, path, folder in open_sets(options):
        found = _measure(Job.of_file(path, folder, BATCH_SIZE), layout, options.rounds)
        limit, ours, plain, *with_reads = (np.array(speeds) for speeds in found.values())
        ratio, times = np.median(ours / limit), np.median(ours) / np.median(plain)
        text = "".join(f"{megabytes(spread(speeds)):>16}" for speeds in (limit, ours, plain))
        rest = "".join(f"{np.median(ours / speeds):12.2f}" for speeds in with_reads)
        print(f"{layout:12}{text}{ratio:10.2f}{times:9.1f}{rest}", flush=True)
    return 0


def _measure(job: Job, layout: str, rounds: int) -> dict[str, list[float]]:
    """Bytes per second in each round: of the limit, of this package, of the plain generator.

    If samples are decoded, there is a fourth: of the limit with the reads.
    """
    batch_bytes = job.batch_bytes
    limit = limit_of(job)
    assert limit is not None
    feed, epochs = LoaderFeed(job), 1
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

    def repeat(limit: Callable[[], float]) -> float:
        begin = time.perf_counter()
        speeds: list[float] = []
        while not speeds or time.perf_counter() - begin < SECONDS / 2:
            speeds.append(limit())
        return statistics.harmonic_mean(speeds)

    with feed.loader, CONTENDERS["plain"].open(job) as plain:
        delivered = feed.take_turn(Turn(max_seconds=math.inf, with_digests=True)).digests
        compare(delivered, stored_digests(job.path, job.num_samples), is_whole_epoch=True)
        warm_cache(job.path)
        dataset: Any = plain.batches
        dataset = dataset if layout == "contiguous" else dataset.take(PLAIN_BATCHES)
        measures: dict[str, Callable[[], float]] = {
            "limit": lambda: repeat(limit.measure),
            "h5video_data": drain_ours,
            "plain": lambda: drain(dataset),
        }
        if limit.measure_with_reads is not None:
            with_reads = limit.measure_with_reads
            measures["limit with reads"] = lambda: repeat(with_reads)
        return in_turns(measures, rounds)


if __name__ == "__main__":
    sys.exit(main())
