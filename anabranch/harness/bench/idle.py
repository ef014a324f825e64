"""What ranker and indexer cost while no events come: their CPU time, and how soon the next event is ranked."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from anabranch.harness.bench.figures.statistics import Figures, spread_by_name
from anabranch.harness.bench.fixture import BenchFixture
from anabranch.harness.bench.noop_baseline import ANSWER_COUNT, NoopBaseline
from anabranch.harness.environment.processes import ChildProcess
from anabranch.kafka.offsets import Offsets
from anabranch.messages import Event

WARMUP_EVENTS = 200
"""Ranked before the first measurement: the user states that they change are saved while the ranker settles."""
SETTLE_S = 10.0
"""From the newest event to the measurement: twice `checkpoint_ms`."""
RANKER, INDEXER, NOOP = "ranker", "indexer", "echo"


@dataclass(frozen=True)
class IdleConfig:
    """How much is measured."""

    repeats: int
    seconds: float
    """How long CPU time is measured, in each repeat. The no-op loop ends by itself after a minute without an event."""


def run(fixture: BenchFixture, config: IdleConfig) -> dict[str, Any]:
    """One ranker, the indexer and the no-op loop wait at the same time; after each wait comes one event for all."""
    events = fixture.testbed.ahead.events()
    fixture.commit_start()
    fixture.rank_once(islice(events, ANSWER_COUNT))
    fixture.item_vector_records()  # the indexer has embedded the catalogue
    baseline = NoopBaseline(fixture)
    shares: list[Figures] = []
    delays_ms: list[Figures] = []
    with fixture.rankers() as (ranker,):
        noop = baseline.start(fixture.settings.batch_max, fixture.end_offsets(), WARMUP_EVENTS + config.repeats)
        _publish_and_await(fixture, baseline, events, WARMUP_EVENTS)
        processes = {RANKER: ranker.process, INDEXER: fixture.indexer, NOOP: noop}
        for _ in range(config.repeats):
            time.sleep(SETTLE_S)
            shares.append(cpu_shares(processes, config.seconds))
            delays_ms.append(_next_event_ms(fixture, baseline, events))
    return {
        "what": "CPU time of processes without events, in shares of a core, and ms until the next event is ranked",
        "machine": fixture.machine,
        "plan": {"repeats": config.repeats, "seconds": config.seconds},
        "cpu_share": spread_by_name(shares),
        "next_event_ms": spread_by_name(delays_ms),
    }


def cpu_shares(processes: Mapping[str, ChildProcess], seconds: float) -> Figures:
    """CPU time of each process per second of the next `seconds`; 1 is a whole core.

    Raises `ProcessFailed` if one of them ends.
    """
    started_at = time.monotonic()
    before = {name: process.cpu_s for name, process in processes.items()}
    time.sleep(seconds)
    used_s = {name: process.cpu_s - before[name] for name, process in processes.items()}
    duration_s = time.monotonic() - started_at
    return {name: cpu_s / duration_s for name, cpu_s in used_s.items()}


def _next_event_ms(fixture: BenchFixture, baseline: NoopBaseline, events: Iterator[Event]) -> Figures:
    """Milliseconds from the append of one event to that of its ranking, and to that of the no-op loop's answer."""
    first_offsets, first_answers = fixture.end_offsets(), baseline.end_offsets()
    _publish_and_await(fixture, baseline, events, 1)
    [(_, ranker_ms)] = fixture.latencies_ms(first_offsets)
    [noop_ms] = baseline.latencies_ms(first_offsets, first_answers, warmup_s=0.0)
    return {RANKER: ranker_ms, NOOP: noop_ms}


def _publish_and_await(fixture: BenchFixture, baseline: NoopBaseline, events: Iterator[Event], count: int) -> None:
    """Publish the next `count` events, and wait until the ranker and the no-op loop have answered all of them."""
    answered = _answers(baseline.end_offsets())
    fixture.publish_next(events, count)
    fixture.await_drained()
    fixture.wait_until(lambda: _answers(baseline.end_offsets()) >= answered + count, "the no-op loop answers")


def _answers(end_offsets: Offsets) -> int:
    return sum(end_offsets.values())
