"""How long a ranking takes at a steady rate, beside the echo at the same rate."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from anabranch.harness.bench.fixture import Stand, percentiles, spread
from anabranch.harness.bench.noop_baseline import ANSWERS, Echo
from anabranch.harness.bench.throughput import ranked
from producers.pace import Pace

WARMING_S = 3.0
"""Events that come before any count: a process that has just started has its users' vectors to make."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    repeats: int
    seconds: float
    batch: int
    """Events ranker and echo take at once, at most."""
    rate: float | None
    """Events a second; None: half of what the ranker does at full speed."""
    backlog: int
    """Events ranked to learn that."""
    rankers: int
    """Processes that share the events."""


def run(stand: Stand, plan: Plan) -> dict[str, Any]:
    """Events come at their times, whatever the ranker does, so that what they wait for each other counts."""
    ahead = stand.bed.ahead.events()
    stand.begin()
    stand.rank_once(islice(ahead, ANSWERS))
    echo, rate, full = Echo(stand), plan.rate, None
    if rate is None:
        since = stand.ends()
        stand.publish(ahead, plan.backlog)
        full = ranked(stand, plan.batch, since, plan.rankers).per_second
        rate = full / 2
    events = int(rate * (WARMING_S + plan.seconds))
    ranker_ms: list[dict[str, float]] = []
    with stand.ranking(plan.rankers, batch_max=plan.batch):
        for _ in range(plan.repeats):
            since = stand.ends()
            stand.publish(ahead, events, Pace(per_second=rate))
            stand.drained()
            ranker_ms.append(percentiles([milliseconds for _, milliseconds in stand.waits(since, WARMING_S)]))

    echo_ms: list[dict[str, float]] = []
    for _ in range(plan.repeats):
        since, before = stand.ends(), echo.ends()
        child = echo.start(plan.batch, since, events)
        stand.publish(ahead, events, Pace(per_second=rate))
        child.wait()
        echo_ms.append(percentiles(list(echo.waits(since, before, WARMING_S))))
    return {
        "what": "milliseconds from an event's append to its ranking's, and to its echo's",
        "machine": stand.machine,
        "plan": {
            "repeats": plan.repeats,
            "seconds": plan.seconds,
            "batch": plan.batch,
            "rate": rate,
            "rankers": plan.rankers,
        },
        "events_per_second_at_full_speed": full,
        **{
            f"{who}_ms": {quantile: spread([one[quantile] for one in values]) for quantile in values[0]}
            for who, values in (("ranker", ranker_ms), ("echo", echo_ms))
        },
        "p99_against_echo": spread([one["p99"] / other["p99"] for one, other in zip(ranker_ms, echo_ms, strict=True)]),
    }
