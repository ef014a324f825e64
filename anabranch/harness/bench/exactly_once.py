"""The cost of transactions: the same ranker on the same events, exactly-once and at-least-once in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from anabranch.harness.bench.figures.statistics import Figures, Rate, percentiles, spread, spread_by_name
from anabranch.harness.bench.fixture import BenchFixture
from anabranch.messages import Event
from producers.pace import Pace

GUARANTEES = ("exactly_once", "at_least_once")


@dataclass(frozen=True)
class ExactlyOnceConfig:
    """How much is measured."""

    repeats: int
    events: int
    """Backlog ranked at full load, per repeat."""
    rate: float
    """Events per second while latency is measured."""
    seconds: float
    """How long latency is measured."""


def run(fixture: BenchFixture, config: ExactlyOnceConfig) -> dict[str, Any]:
    """Events per second over a backlog, then latency at a steady rate; the guarantees take turns."""
    events = fixture.testbed.ahead.events()
    rates: dict[str, list[float]] = {name: [] for name in GUARANTEES}
    latencies_ms: dict[str, list[Figures]] = {name: [] for name in GUARANTEES}
    fixture.commit_start()
    _measure(fixture, config, events, GUARANTEES[0])  # not counted: it fills the operating system's caches
    for _ in range(config.repeats):
        for name in GUARANTEES:
            rate, latency_ms = _measure(fixture, config, events, name)
            rates[name].append(rate)
            latencies_ms[name].append(percentiles(latency_ms))
    ratios = [once / plain for once, plain in zip(rates[GUARANTEES[0]], rates[GUARANTEES[1]], strict=True)]
    return {
        "what": "cost of exactly-once",
        "machine": fixture.machine,
        "plan": {"repeats": config.repeats, "backlog": config.events, "rate": config.rate, "seconds": config.seconds},
        "events_per_second": {name: spread(values) for name, values in rates.items()},
        "exactly_once_as_share_of_at_least_once": spread(ratios),
        "latency_ms": {name: spread_by_name(rows) for name, rows in latencies_ms.items()},
    }


def _measure(
    fixture: BenchFixture, config: ExactlyOnceConfig, events: Iterator[Event], guarantee: str
) -> tuple[float, list[float]]:
    """Events per second, and the latencies in ms."""
    first_offsets = fixture.end_offsets()
    fixture.publish_next(events, config.events)
    with fixture.rankers(processing_guarantee=guarantee):
        fixture.await_drained()
        rate = Rate.from_append_times(fixture.append_times_ms(first_offsets)).per_second

        first_offsets = fixture.end_offsets()
        fixture.publish_next(events, int(config.rate * config.seconds), Pace(events_per_second=config.rate))
        fixture.await_drained()
    return rate, [latency_ms for _, latency_ms in fixture.latencies_ms(first_offsets)]
