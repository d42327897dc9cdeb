"""Measures all contenders on one layout: opened, checked, and then measured in turns.

What is found is plain data, as it goes into the JSON file: the facts of the file, the limit, the
rows of the table, and every single run.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checks import WrongSamplesError, compare, stored_digests
from .contenders import CONTENDERS, Job, SkippedError, parse
from .facts import UsageError, cached_share, drop_cache, file_facts, warm_cache
from .limits import limit_of
from .measure import Feed, Turn, in_turns, spread
from .processes import ContenderError, RemoteFeed, open_process

# Steps of an accelerator, (bytes, seconds): `configs/dlio/workload` of MLPerf Storage
# (https://github.com/mlcommons/storage), which emulates it by a pause of that time.
STEPS = {
    "unet3d-h100": (7 * 146_600_628, 0.323),
    "unet3d-a100": (7 * 146_600_628, 0.636),
    "cosmoflow-h100": (2_828_486, 0.0035),
    "resnet50-h100": (400 * 114_660.07, 0.224),
}

# Prefetching comes to rest, so that it does not disturb the next one's turn.
PAUSE_SECONDS = 0.3

MAX_ERROR_CHARACTERS = 400

# Steps of an emulated accelerator that there is time for in any case.
NUM_STEPS = 20

# At full speed, and with an emulated accelerator if there is one.
Runs = list[dict[str, Any]]


def step_seconds(accelerator: str, batch_bytes: int) -> float:
    """Parses an accelerator: how long it computes on a batch; raises ValueError if it is none."""
    kind, _, step = accelerator.partition(":")
    if accelerator == "none":
        return 0.0
    if kind == "emulated" and step in STEPS:
        num_bytes, seconds = STEPS[step]
        return batch_bytes / num_bytes * seconds
    with contextlib.suppress(ValueError):
        if kind == "emulated" and 0 < float(step) < 3600:
            return float(step)
    raise ValueError(
        f"--accelerator is none, emulated:SECONDS, or emulated: with one of {', '.join(STEPS)}; "
        f"on a GPU: python -m benchmarks.gpu. Received: {accelerator!r}"
    )


def open_feed(
    entry: str, job: Job, options: argparse.Namespace
) -> contextlib.AbstractContextManager[RemoteFeed]:
    """Opens a contender, `NAME` or `NAME:WORKERS`, in a process of its own."""
    name, workers = parse(entry)
    python = sys.executable
    if CONTENDERS[name].has_environment:
        python = str(Path(options.tfio).absolute() / "bin" / "python")
        if not Path(python).exists():
            raise SkippedError(
                "it needs an environment of its own, which this makes: "
                f"python -m benchmarks.tfio.setup {options.tfio}"
            )
    return open_process(name, replace(job, workers=workers), python)


def measure_layout(
    layout: str, path: str, folder: str, options: argparse.Namespace, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measures all contenders on one file; `folder` is for copies."""
    facts = {"layout": layout, **file_facts(path, options.batch_size, options.samples)}
    facts["is_cold"] = options.cold
    job = Job(path, folder, facts["num_samples"], options.batch_size)
    try:
        stored = stored_digests(path, job.num_samples)
    except OSError as error:
        raise UsageError(
            f"{path}: h5py cannot read it: {error}. If it needs a filter: pip install '.[filters]'"
        ) from error
    step = step_seconds(options.accelerator, job.batch_bytes)
    # A second epoch would not be cold any more.
    turns = [Turn(0.0 if options.cold else options.seconds[0], options.seconds[1])]
    if step:
        longer = max(options.seconds[1], NUM_STEPS * step)
        turns.append(replace(turns[0], step_seconds=step, max_seconds=longer))
    rows: dict[str, dict[str, Any]] = {}
    files = [path]

    def fail(entry: str, error: Exception) -> None:
        is_plain = isinstance(error, (ContenderError, WrongSamplesError))
        text = str(error) if is_plain else f"{type(error).__name__}: {error}"
        # TensorFlow's errors are pages long.
        text = textwrap.shorten(text, MAX_ERROR_CHARACTERS, placeholder=" ...")
        say(f"{layout}: {entry}: FAILED: {text}")
        if entry in rows:
            rows[entry]["failed"] = text

    def settle() -> None:
        drop_cache(files if options.cold else [])
        time.sleep(PAUSE_SECONDS)

    def measure(entry: str, feed: Feed, turns: list[Turn]) -> Runs:
        runs = []
        for turn in turns:
            settle()
            run: dict[str, Any] = {"contender": entry, "step_seconds": turn.step_seconds}
            run |= asdict(feed.take_turn(turn))
            del run["digests"]
            run["bytes_per_second"] = run["num_samples"] * facts["sample_bytes"] / run["seconds"]
            used = "" if run["utilisation"] is None else f", utilisation {run['utilisation']:.0%}"
            say(f"{layout}: {entry}: {run['bytes_per_second'] / 1e6:,.0f} MB/s{used}")
            runs.append(run)
        return runs

    def measure_limit() -> Runs:
        settle()
        assert limit is not None
        return [{"contender": "limit", "bytes_per_second": limit.measure()}]

    measures: dict[str, Callable[[], Runs]] = {}
    limit = limit_of(job, cold=options.cold)
    if limit is not None:
        measures["limit"] = measure_limit
    if step:
        measures["resident"] = functools.partial(measure, "resident", _resident(facts), turns[1:])
    with contextlib.ExitStack() as stack:
        for entry in options.contenders:
            row = rows[entry] = {"contender": entry, "skipped": None, "failed": None}
            try:
                feed = stack.enter_context(open_feed(entry, job, options))
                # Warms the feed up as well.
                result = feed.take_turn(Turn(max_seconds=options.seconds[2], with_digests=True))
                compare(result.digests, stored, is_whole_epoch=result.is_whole)
            except SkippedError as error:
                row["skipped"] = str(error)
                say(f"{layout}: {entry}: skipped: {error}")
            except Exception as error:
                fail(entry, error)
            else:
                row |= {"checked_samples": result.num_samples, "checked_all": result.is_whole}
                say(f"{layout}: {entry}: {result.num_samples} samples are right")
                if CONTENDERS[parse(entry)[0]].has_environment:
                    row["versions"] = feed.versions
                files += feed.files
                measures[entry] = functools.partial(measure, entry, feed, turns)
        if options.cold:
            drop_cache(files)
        else:
            warm_cache(path)
        facts["cached_share"] = cached_share(path)
        found = in_turns(measures, options.epochs, warm_up=False, failed=fail)
    for entry in found.keys() & rows.keys():
        rows[entry] |= _summary(entry, found, facts)
    return {
        **facts,
        "limit_name": limit and limit.name,
        "limit": spread(_speeds(found["limit"])) if "limit" in found else None,
        "step_seconds": step or None,
        "resident_utilisation": _utilisation(found.get("resident", [])),
        "rows": list(rows.values()),
        "runs": [
            {"round": number, **run}
            for rounds in found.values()
            for number, runs in enumerate(rounds)
            for run in runs
        ],
    }


def _resident(facts: dict[str, Any]) -> Feed:
    """A batch that is in memory, again and again: what the loop over a dataset costs in itself."""
    import tensorflow as tf

    clips = tf.zeros((facts["batch_size"], *facts["sample_shape"]), facts["dtype"])
    return Feed(tf.data.Dataset.from_tensors((clips, tf.zeros(()))).repeat(1000))


def _speeds(rounds: list[Runs]) -> NDArray[np.float64]:
    return np.array([runs[0]["bytes_per_second"] for runs in rounds])


def _utilisation(rounds: list[Runs]) -> tuple[float, float] | None:
    shares = [run["utilisation"] for runs in rounds for run in runs]
    shares = [share for share in shares if share is not None]
    return spread(shares) if shares else None


def _summary(entry: str, found: dict[str, list[Runs]], facts: dict[str, Any]) -> dict[str, Any]:
    """The figures of a contender's row."""
    speeds = {name: _speeds(rounds) for name, rounds in found.items()}
    own = speeds[entry]
    # A copy in a format of its own has nothing to do with chunks of many samples.
    comparable = facts["has_single_samples"] or not CONTENDERS[parse(entry)[0]].is_copy
    has_limit = comparable and "limit" in speeds
    return {
        "bytes_per_second": spread(own),
        "utilisation": _utilisation(found[entry]),
        "first_batch_seconds": spread([runs[0]["first_batch_seconds"] for runs in found[entry]])[0],
        "times_plain": (
            float(np.median(own) / np.median(speeds["plain"])) if "plain" in speeds else None
        ),
        "of_limit": float(np.median(own / speeds["limit"])) if has_limit else None,
    }
