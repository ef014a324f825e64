"""How long partitions are without rankings when the group changes: those that move, and those that stay."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from anabranch.harness.bench.figures.statistics import percentiles, spread
from anabranch.harness.bench.fixture import BenchFixture
from anabranch.harness.bench.ranker_process import RankerProcess
from anabranch.harness.bench.streaming import EventStreaming, repeat_forever

ChangeResult = TypeVar("ChangeResult")


@dataclass(frozen=True)
class RebalanceConfig:
    """How much is measured."""

    repeats: int
    rate: float
    """Events per second."""
    calm_s: float = 4.0
    """Seconds of stream before a change, and after the group is stable again."""


@dataclass
class Pauses:
    """The largest latency, in ms, of each partition around a change of the group."""

    moved: list[float] = field(default_factory=list)
    stayed: list[float] = field(default_factory=list)


def run(fixture: BenchFixture, config: RebalanceConfig) -> dict[str, Any]:
    """Two rankers and a steady stream; a third joins, leaves after SIGTERM, joins again and is killed."""
    changes: dict[str, Pauses] = defaultdict(Pauses)
    calm_ms: list[float] = []
    with (
        EventStreaming(fixture, repeat_forever(fixture.testbed.ahead), config.rate),
        fixture.rankers(2) as two,
    ):
        measure = _Measurement(fixture, config.calm_s, two)
        for _ in range(config.repeats):
            calm_ms += measure.without_change()
            third = measure.around(changes["joins"], lambda: _join(fixture, two))
            measure.around(changes["leaves"], third.process.stop)
            killed = _join(fixture, two)
            measure.around(changes["is killed"], killed.process.kill)
    return {
        "what": "largest latency around a change of the group, by partition",
        "machine": fixture.machine,
        "plan": {
            "repeats": config.repeats,
            "rate": config.rate,
            "session_timeout_ms": fixture.settings.session_timeout_ms,
        },
        "no change, every ranking": percentiles(calm_ms),
        **{f"a ranker {change}": _figures(pauses) for change, pauses in changes.items()},
    }


@dataclass(frozen=True)
class _Measurement:
    """Latencies around changes of the group; `remaining` are the rankers that stay in it."""

    fixture: BenchFixture
    calm_s: float
    remaining: Sequence[RankerProcess]

    def without_change(self) -> list[float]:
        """Latencies in ms, of every ranking."""
        first_offsets = self.fixture.end_offsets()
        time.sleep(2 * self.calm_s)
        return [latency_ms for _, latency_ms in self.fixture.latencies_ms(first_offsets)]

    def around(self, pauses: Pauses, change: Callable[[], ChangeResult]) -> ChangeResult:
        """Make the change in the middle of the stream, and add each partition's largest latency to `pauses`."""
        first_offsets = self.fixture.end_offsets()
        time.sleep(self.calm_s)
        before = [ranker.partitions for ranker in self.remaining]
        result = change()
        self.fixture.await_rebalanced(before, self.remaining)
        time.sleep(self.calm_s)
        after = [ranker.partitions for ranker in self.remaining]
        moved = frozenset[int]().union(*(old ^ new for old, new in zip(before, after, strict=True)))
        largest_ms: dict[int, float] = defaultdict(float)
        for partition, latency_ms in self.fixture.latencies_ms(first_offsets):
            largest_ms[partition] = max(largest_ms[partition], latency_ms)
        for partition, latency_ms in largest_ms.items():
            (pauses.moved if partition in moved else pauses.stayed).append(latency_ms)
        return result


def _join(fixture: BenchFixture, others: Sequence[RankerProcess]) -> RankerProcess:
    joined = fixture.start_ranker()
    fixture.await_ready(*others, joined)
    return joined


def _figures(pauses: Pauses) -> dict[str, Any]:
    return {
        name: spread(values) | {"partitions": len(values)} if values else None
        for name, values in (("moved_ms", pauses.moved), ("stayed_ms", pauses.stayed))
    }
