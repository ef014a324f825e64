"""Events per second of rankers at full load, and of the no-op baseline on the same events in the same run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any

from anabranch.harness.bench.figures.statistics import Rate, rate_by_segment, spread
from anabranch.harness.bench.fixture import BenchFixture
from anabranch.harness.bench.noop_baseline import ANSWER_COUNT, NoopBaseline
from anabranch.kafka.offsets import Offsets

NATIVE_STAGES = ("decode", "encode", "retrieve", "order", "write")
"""Stages that spend nearly all their time in ONNX Runtime, FAISS and msgspec."""


@dataclass(frozen=True)
class ThroughputConfig:
    """How much is measured."""

    repeats: int
    events: int
    batch: int
    """The ranker's `batch_max`."""
    rankers: int
    """Processes that share the events."""
    noop_batches: tuple[int, ...]
    """Values of `batch_max` for the no-op baseline; the fastest counts."""


@dataclass(frozen=True)
class BacklogRun:
    """One backlog, ranked."""

    per_second: float
    stage_shares: dict[str, float]
    """Time of each stage, all threads of one ranker together, as a share of the wall time."""

    @property
    def native_share(self) -> float:
        """Time in native stages as a share of the wall time."""
        return sum(self.stage_shares.get(stage, 0.0) for stage in NATIVE_STAGES)


def run(fixture: BenchFixture, config: ThroughputConfig) -> dict[str, Any]:
    """Rankers and the baseline in turn over the same backlog; a ratio is between figures of the same repeat."""
    events = fixture.testbed.ahead.events()
    fixture.commit_start()
    fixture.rank_once(islice(events, ANSWER_COUNT))
    baseline = NoopBaseline(fixture)
    runs: list[BacklogRun] = []
    noop_rates: dict[int, list[float]] = {batch: [] for batch in config.noop_batches}
    for _ in range(config.repeats):
        first_offsets = fixture.end_offsets()
        fixture.publish_next(events, config.events)
        runs.append(rank_backlog(fixture, config.batch, first_offsets, config.rankers))
        for batch in config.noop_batches:
            noop_rates[batch].append(baseline.events_per_second(batch, first_offsets, config.events))
    fastest = [max(rates[repeat] for rates in noop_rates.values()) for repeat in range(config.repeats)]
    return {
        "what": f"events per second of {config.rankers} ranker(s) and of the no-op baseline",
        "machine": fixture.machine,
        "plan": {
            "repeats": config.repeats,
            "backlog": config.events,
            "batch": config.batch,
            "rankers": config.rankers,
        },
        "events_per_second": spread([result.per_second for result in runs]),
        "echo_events_per_second": {str(batch): spread(rates) for batch, rates in noop_rates.items()},
        "share_of_best_echo": spread([result.per_second / noop for result, noop in zip(runs, fastest, strict=True)]),
        "kernel_share": spread([result.native_share / fixture.machine["cores"] for result in runs]),
        "share_of_wall_time": {
            stage: spread([result.stage_shares[stage] for result in runs]) for stage in runs[0].stage_shares
        },
    }


def rank_backlog(
    fixture: BenchFixture,
    batch: int,
    first_offsets: Offsets,
    rankers: int = 1,
    settings: Mapping[str, object] = MappingProxyType({}),
) -> BacklogRun:
    """Rank the backlog from `first_offsets` on, with these settings, and measure the rate from its first ranking on."""
    stage_seconds = _drain(fixture, rankers, {"batch_max": batch, **settings})
    rate = Rate.from_append_times(fixture.append_times_ms(first_offsets))
    return BacklogRun(rate.per_second, {stage: seconds / rate.seconds for stage, seconds in stage_seconds.items()})


def rank_in_segments(fixture: BenchFixture, batch: int, first_offsets: Offsets, segments: int) -> list[float]:
    """Rank the backlog from `first_offsets` on with one ranker; events per second in each of its equal segments."""
    _drain(fixture, 1, {"batch_max": batch})
    return rate_by_segment(fixture.append_times_ms(first_offsets), segments)


def _drain(fixture: BenchFixture, rankers: int, settings: Mapping[str, object]) -> dict[str, float]:
    """Start rankers, and stop them once every event is ranked. Returns the first one's seconds by stage."""
    with fixture.rankers(rankers, **settings) as started:
        fixture.await_drained()
        return started[0].probe.by_label("anabranch_stage_seconds_sum", "stage")
