"""Latency at a steady rate: from an event's append to its ranking's, and the no-op baseline's at the same rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from anabranch.harness.bench.figures.statistics import Figures, percentiles, spread, spread_by_name
from anabranch.harness.bench.fixture import BenchFixture
from anabranch.harness.bench.noop_baseline import ANSWER_COUNT, NoopBaseline
from anabranch.harness.bench.throughput import rank_backlog
from anabranch.messages import Event
from producers.pace import Pace

WARMUP_S = 3.0
"""Seconds of events before the measured ones: a ranker that has just started still re-encodes its users' vectors."""


@dataclass(frozen=True)
class LatencyConfig:
    """How much is measured."""

    repeats: int
    seconds: float
    batch: int
    """`batch_max` of ranker and baseline."""
    rate: float | None
    """Events per second; None: half of the ranker's rate at full load."""
    backlog: int
    """Events ranked to measure that rate."""
    rankers: int
    """Processes that share the events."""


def run(fixture: BenchFixture, config: LatencyConfig) -> dict[str, Any]:
    """Events are published at their times whatever the ranker does, so the time that they queue counts.

    The ranker and the baseline are measured one after the other.
    """
    events = fixture.testbed.ahead.events()
    fixture.commit_start()
    fixture.rank_once(islice(events, ANSWER_COUNT))
    baseline, rate, full_load = NoopBaseline(fixture), config.rate, None
    if rate is None:
        first_offsets = fixture.end_offsets()
        fixture.publish_next(events, config.backlog)
        full_load = rank_backlog(fixture, config.batch, first_offsets, config.rankers).per_second
        rate = full_load / 2
    ranker_ms = _measure_ranker(fixture, config, events, rate)
    baseline_ms = _measure_baseline(fixture, config, events, rate, baseline)
    ratios = [ranker["p99"] / noop["p99"] for ranker, noop in zip(ranker_ms, baseline_ms, strict=True)]
    return {
        "what": "milliseconds from an event's append to its ranking's, and to the no-op baseline's answer",
        "machine": fixture.machine,
        "plan": {
            "repeats": config.repeats,
            "seconds": config.seconds,
            "batch": config.batch,
            "rate": rate,
            "rankers": config.rankers,
        },
        "events_per_second_at_full_speed": full_load,
        "ranker_ms": spread_by_name(ranker_ms),
        "echo_ms": spread_by_name(baseline_ms),
        "p99_against_echo": spread(ratios),
    }


def _measure_ranker(
    fixture: BenchFixture, config: LatencyConfig, events: Iterator[Event], rate: float
) -> list[Figures]:
    count, rows = int(rate * (WARMUP_S + config.seconds)), []
    with fixture.rankers(config.rankers, batch_max=config.batch):
        for _ in range(config.repeats):
            first_offsets = fixture.end_offsets()
            fixture.publish_next(events, count, Pace(events_per_second=rate))
            fixture.await_drained()
            rows.append(percentiles([latency_ms for _, latency_ms in fixture.latencies_ms(first_offsets, WARMUP_S)]))
    return rows


def _measure_baseline(
    fixture: BenchFixture, config: LatencyConfig, events: Iterator[Event], rate: float, baseline: NoopBaseline
) -> list[Figures]:
    count, rows = int(rate * (WARMUP_S + config.seconds)), []
    for _ in range(config.repeats):
        first_offsets, first_answers = fixture.end_offsets(), baseline.end_offsets()
        process = baseline.start(config.batch, first_offsets, count)
        fixture.publish_next(events, count, Pace(events_per_second=rate))
        process.wait()
        rows.append(percentiles(list(baseline.latencies_ms(first_offsets, first_answers, WARMUP_S))))
    return rows
