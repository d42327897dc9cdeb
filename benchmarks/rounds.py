"""One layout: every contender is opened, checked, and then measured in turns with the others."""

from __future__ import annotations

import contextlib
import textwrap
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from .checks import WrongSamplesError, compare, stored_digests
from .contenders import CONTENDERS, Job, parse
from .facts import read_facts
from .limits import Limit, buffers_of_a_feed, limit_of
from .measure import Feed, Turn, cached_share, drop_cache, spread, warm_cache
from .processes import ContenderError, Opener
from .settings import Say, Settings, UsageError
from .utilisation import ResidentFeed, step_seconds
from .worker import SkippedError

# Reading ahead comes to rest, so that nobody's turn is disturbed by the one before.
PAUSE_SECONDS = 0.3

MAX_ERROR_CHARACTERS = 400

# Steps of an emulated accelerator that there is time for in any case.
NUM_STEPS = 20


def measure_layout(
    layout: str, path: str, settings: Settings, folder: Path, opener: Opener, say: Say
) -> dict[str, Any]:
    """Measures all contenders on one file.

    Args:
        layout: Its name, for people.
        path: The file.
        settings: What is measured, and how.
        folder: Where copies go.
        opener: Opens contenders.
        say: Is told what happens.

    Returns:
        The layout's part of the report.

    Raises:
        UsageError: The file is not of the kind that can be measured.
    """
    facts, num_samples = read_facts(layout, path, settings)
    job = Job(path, folder, num_samples, settings.batch_size, settings.num_threads)
    say(f"{layout}: computing the checksums of {num_samples} samples")
    table = _Table(layout, opener, say, settings.contenders)
    with contextlib.ExitStack() as stack:
        try:
            stored = stored_digests(path, num_samples)
        except OSError as error:  # a filter that is not installed, or a broken file
            raise UsageError(
                f"{path}: h5py cannot read it: {error}. If it needs a filter: "
                "pip install '.[filters]'"
            ) from error
        for entry in settings.contenders:
            table.open(entry, job, stack, stored, settings.check_seconds)
        files = [path, *(file for feed in table.feeds.values() for file in feed.files)]
        if settings.cold:
            drop_cache(files)
        else:
            warm_cache(path)
        facts["cached_share"] = cached_share(path)
        measured = _measure(table, facts, job, settings, files)
    return {**facts, **measured, "rows": list(table.rows.values()), "runs": table.runs}


class _Table:
    """What is known of each contender; the feeds of those that still take part."""

    def __init__(self, layout: str, opener: Opener, say: Say, entries: Sequence[str]) -> None:
        self.layout = layout
        self.rows: dict[str, dict[str, Any]] = {
            entry: {
                "contender": entry,
                "settings": CONTENDERS[parse(entry)[0]].settings,
                "skipped": None,
                "failed": None,
            }
            for entry in entries
        }
        self.runs: list[dict[str, Any]] = []
        self.feeds: dict[str, Feed] = {}
        self._opener = opener
        self._say = say

    def say(self, text: str) -> None:
        self._say(f"{self.layout}: {text}")

    def open(
        self,
        entry: str,
        job: Job,
        stack: contextlib.ExitStack,
        stored: list[int],
        max_seconds: float,
    ) -> None:
        """Opens a contender, and checks an epoch of it, which warms it up."""
        try:
            feed = stack.enter_context(self._opener.open_feed(entry, job))
            result = feed.take_turn(Turn(max_seconds=max_seconds, with_digests=True))
            compare(result.digests, stored, is_whole_epoch=result.is_whole)
        except SkippedError as error:
            self.rows[entry]["skipped"] = str(error)
            self.say(f"{entry}: skipped: {error}")
            return
        except Exception as error:
            self.fail(entry, error)
            return
        self.feeds[entry] = feed
        if CONTENDERS[parse(entry)[0]].has_environment:
            found = feed.versions or {}
            found.pop("h5video_data", None)  # on the path, but has no part in it
            self.rows[entry]["versions"] = found
        self.rows[entry]["checked_samples"] = len(result.digests)
        self.rows[entry]["checked_whole_epoch"] = result.is_whole
        self.say(f"{entry}: {len(result.digests)} samples are right")

    def fail(self, entry: str, error: Exception) -> None:
        """A contender is out."""
        is_plain = isinstance(error, (ContenderError, WrongSamplesError))
        text = str(error) if is_plain else f"{type(error).__name__}: {error}"
        # TensorFlow's errors are pages long; whole tracebacks are in the process's log.
        text = textwrap.shorten(text, MAX_ERROR_CHARACTERS, placeholder=" ...")
        self.rows[entry]["failed"] = text
        self.feeds.pop(entry, None)
        self._opener.forget(entry)
        self.say(f"{entry}: FAILED: {text}")


def _measure(
    table: _Table, facts: dict[str, Any], job: Job, settings: Settings, files: list[str]
) -> dict[str, Any]:
    limit = limit_of(
        job.path,
        job.order(0),
        batch_size=job.batch_size,
        num_threads=settings.num_threads,
        num_buffers=buffers_of_a_feed(job.batch_size * facts["sample_bytes"]),
        cold=settings.cold,
    )
    kind, _, text = settings.accelerator.partition(":")
    batch_bytes = job.batch_size * facts["sample_bytes"]
    step = step_seconds(text, batch_bytes) if kind == "emulated" else 0.0
    # A second epoch would not be cold any more.
    turns = [Turn(0.0 if settings.cold else settings.min_seconds, settings.max_seconds)]
    if step:
        max_seconds = max(settings.max_seconds, NUM_STEPS * step)
        turns.append(replace(turns[0], step_seconds=step, max_seconds=max_seconds))
    speeds: dict[str, list[float]] = {}
    limit_speeds: list[float] = []
    resident = ResidentFeed(job.batch_size, facts["sample_shape"], facts["dtype"]) if step else None
    resident_used: list[float] = []
    for number in range(settings.rounds):
        if resident is not None:
            share = resident.take_turn(turns[1]).utilisation
            resident_used += [] if share is None else [share]
        if limit is not None:
            limit = _measure_limit(limit, limit_speeds, files if settings.cold else [], table)
        # Forwards and backwards, so that nobody always follows the same one.
        for entry in list(table.feeds)[:: 1 if number % 2 == 0 else -1]:
            for turn in turns:
                drop_cache(files if settings.cold else [])
                time.sleep(PAUSE_SECONDS)
                try:
                    result = table.feeds[entry].take_turn(turn)
                except Exception as error:
                    table.fail(entry, error)
                    break
                speed = result.num_samples * facts["sample_bytes"] / result.seconds
                figures = {key: value for key, value in asdict(result).items() if key != "digests"}
                run = {
                    "contender": entry,
                    "round": number,
                    "step_seconds": turn.step_seconds,
                    "bytes_per_second": speed,
                    **figures,
                }
                table.runs.append(run)
                done = f"round {number + 1}/{settings.rounds}: {entry}: "
                if not turn.step_seconds:
                    speeds.setdefault(entry, []).append(speed)
                    table.say(f"{done}{speed / 1e6:,.0f} MB/s")
                else:
                    used = "too few steps to tell"
                    if result.utilisation is not None:
                        used = f"{result.utilisation:.0%}"
                    table.say(f"{done}accelerator utilisation: {used}")
    for entry in table.feeds:
        # A copy in a format of its own has nothing to do with chunks of many samples.
        comparable = facts["has_single_samples"] or not CONTENDERS[parse(entry)[0]].is_copy
        table.rows[entry] |= _summary(
            entry, table.runs, speeds, limit_speeds if limit is not None and comparable else []
        )
    return {
        "limit_name": None if limit is None else limit.name,
        "limit": None if limit is None else spread(limit_speeds),
        "limit_runs": limit_speeds,
        "step_seconds": step or None,
        "resident_utilisation": spread(resident_used) if resident_used else None,
    }


def _measure_limit(
    limit: Limit, speeds: list[float], cold_files: list[str], table: _Table
) -> Limit | None:
    drop_cache(cold_files)
    try:
        speeds.append(limit.measure())
    except OSError as error:  # this file system has no direct reads
        table.say(f"no limit, for {limit.name} failed: {error}")
        return None
    return limit


def _summary(
    entry: str,
    runs: list[dict[str, Any]],
    speeds: dict[str, list[float]],
    limit_speeds: list[float],
) -> dict[str, Any]:
    """What the table shows of a contender."""
    own = [run for run in runs if run["contender"] == entry]
    used = [run["utilisation"] for run in own if run["utilisation"] is not None]
    first = [run["first_batch_seconds"] for run in own if not run["step_seconds"]]
    middle, _ = spread(speeds[entry])
    baseline = next((name for name in ("plain", "plain-prefetch") if name in speeds), None)
    return {
        "bytes_per_second": spread(speeds[entry]),
        "utilisation": spread(used) if used else None,
        "first_batch_seconds": spread(first)[0],
        "times_plain": middle / spread(speeds[baseline])[0] if baseline else None,
        "of_limit": float(np.median(np.array(speeds[entry]) / limit_speeds))
        if limit_speeds
        else None,
    }
