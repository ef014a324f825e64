"""What transactions cost: the same ranker on the same events, with them and without, in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from anabranch.harness.bench.fixture import Speed, Stand, percentiles, spread
from anabranch.messages import Event
from producers.pace import Pace

GUARANTEES = ("exactly_once", "at_least_once")


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    repeats: int
    events: int
    rate: float
    seconds: float


def run(stand: Stand, plan: Plan) -> dict[str, Any]:
    """Events a second over a backlog, then latency at a steady rate; the guarantees take turns."""
    ahead = stand.bed.ahead.events()
    speed: dict[str, list[float]] = {name: [] for name in GUARANTEES}
    waited: dict[str, list[dict[str, float]]] = {name: [] for name in GUARANTEES}
    stand.begin()
    _measure(stand, plan, ahead, GUARANTEES[0])  # not counted: it loads what the others find in the caches
    for _ in range(plan.repeats):
        for name in GUARANTEES:
            per_second, milliseconds = _measure(stand, plan, ahead, name)
            speed[name].append(per_second)
            waited[name].append(percentiles(milliseconds))
    ratios = [once / plain for once, plain in zip(speed[GUARANTEES[0]], speed[GUARANTEES[1]], strict=True)]
    return {
        "what": "cost of exactly once",
        "machine": stand.machine,
        "plan": {"repeats": plan.repeats, "backlog": plan.events, "rate": plan.rate, "seconds": plan.seconds},
        "events_per_second": {name: spread(values) for name, values in speed.items()},
        "exactly_once_as_share_of_at_least_once": spread(ratios),
        "latency_ms": {
            name: {q: spread([one[q] for one in values]) for q in values[0]} for name, values in waited.items()
        },
    }


def _measure(stand: Stand, plan: Plan, ahead: Iterator[Event], guarantee: str) -> tuple[float, list[float]]:
    since = stand.ends()
    stand.publish(ahead, plan.events)
    with stand.ranking(processing_guarantee=guarantee):
        stand.drained()
        per_second = Speed.of([answer.appended for answer in stand.answered(since)[1]]).per_second

        since = stand.ends()
        stand.publish(ahead, int(plan.rate * plan.seconds), Pace(per_second=plan.rate))
        stand.drained()
    return per_second, [waited for _, waited in stand.waits(since)]
