"""How many events a second rankers rank, beside the echo on the same events in the same run."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from anabranch.harness.bench.fixture import Speed, Stand, in_stretches, spread
from anabranch.harness.bench.noop_baseline import ANSWERS, Echo
from anabranch.kafka.offsets import Offsets

KERNEL = ("decode", "encode", "retrieve", "order", "write")
"""Stages that are nearly all ONNX Runtime, FAISS and msgspec."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    repeats: int
    events: int
    batch: int
    """Events a ranker takes at once, at most."""
    rankers: int
    """Processes that share the work."""
    echo_batches: tuple[int, ...]
    """As `batch`, for the echo; the best counts."""


@dataclass(frozen=True)
class Run:
    """One backlog, ranked."""

    per_second: float
    shares: dict[str, float]
    """Of the wall time, by stage, all threads of one ranker together."""

    @property
    def kernels(self) -> float:
        """The kernels' part of that."""
        return sum(self.shares.get(stage, 0.0) for stage in KERNEL)


def run(stand: Stand, plan: Plan) -> dict[str, Any]:
    """Rankers and the echo, in turn, over the same backlog; figures with their spread."""
    ahead = stand.bed.ahead.events()
    stand.begin()
    stand.rank_once(islice(ahead, ANSWERS))
    echo = Echo(stand)
    runs: list[Run] = []
    echoed: dict[int, list[float]] = {batch: [] for batch in plan.echo_batches}
    for _ in range(plan.repeats):
        since = stand.ends()
        stand.publish(ahead, plan.events)
        runs.append(ranked(stand, plan.batch, since, plan.rankers))
        for batch in plan.echo_batches:
            echoed[batch].append(echo.speed(batch, since, plan.events))
    best = [max(speeds[repeat] for speeds in echoed.values()) for repeat in range(plan.repeats)]
    return {
        "what": f"events a second through {plan.rankers} ranker(s), and through the echo",
        "machine": stand.machine,
        "plan": {"repeats": plan.repeats, "backlog": plan.events, "batch": plan.batch, "rankers": plan.rankers},
        "events_per_second": spread([one.per_second for one in runs]),
        "echo_events_per_second": {str(batch): spread(speeds) for batch, speeds in echoed.items()},
        "share_of_best_echo": spread([one.per_second / other for one, other in zip(runs, best, strict=True)]),
        "kernel_share": spread([one.kernels / stand.machine["cores"] for one in runs]),
        "share_of_wall_time": {stage: spread([one.shares[stage] for one in runs]) for stage in runs[0].shares},
    }


def ranked(stand: Stand, batch: int, since: Offsets, rankers: int = 1) -> Run:
    """Rank the backlog from some offsets on, and see how fast that went from its first ranking on."""
    spent = _drain(stand, batch, rankers)
    speed = Speed.of([answer.appended for answer in stand.answered(since)[1]])
    return Run(speed.per_second, {stage: seconds / speed.seconds for stage, seconds in spent.items()})


def stretches(stand: Stand, batch: int, since: Offsets, count: int) -> list[float]:
    """Rank the backlog from some offsets on in one go: events a second over so many stretches of it of like length."""
    _drain(stand, batch, rankers=1)
    return in_stretches([answer.appended for answer in stand.answered(since)[1]], count)


def _drain(stand: Stand, batch: int, rankers: int) -> dict[str, float]:
    """Start rankers, and stop them when every event is ranked; seconds that the first spent, by stage."""
    with stand.ranking(rankers, batch_max=batch) as started:
        stand.drained()
        return started[0].by_label("anabranch_stage_seconds_sum", "stage")
