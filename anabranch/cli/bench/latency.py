"""How long a ranking takes at a steady rate, beside the echo at the same rate."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from anabranch.cli.bench.echo import ANSWERS, Echo
from anabranch.cli.bench.stand import Stand, percentiles, spread
from anabranch.cli.bench.throughput import ranked
from producers.pace import Pace


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


def run(stand: Stand, plan: Plan) -> dict[str, Any]:
    """Events come at their times, whatever the ranker does, so that what they wait for each other counts."""
    ahead = stand.bed.ahead.events()
    stand.begin()
    stand.rank_once(islice(ahead, ANSWERS))
    echo, rate, full = Echo(stand), plan.rate, None
    if rate is None:
        since = stand.ends()
        stand.publish(ahead, plan.backlog)
        full = ranked(stand, plan.batch, since).per_second
        rate = full / 2
    events = int(rate * plan.seconds)
    waited: dict[str, list[dict[str, float]]] = {"ranker": [], "echo": []}
    for _ in range(plan.repeats):
        since = stand.ends()
        ranker = stand.rank("--set", f"batch_max={plan.batch}")
        stand.ready(ranker)
        stand.publish(ahead, events, Pace(per_second=rate))
        stand.drained()
        ranker.child.stop()
        waited["ranker"].append(percentiles([milliseconds for _, milliseconds in stand.waits(since)]))

        since, before = stand.ends(), echo.ends()
        child = echo.start(plan.batch, since, events)
        stand.publish(ahead, events, Pace(per_second=rate))
        child.wait()
        waited["echo"].append(percentiles(list(echo.waits(since, before))))
        stand.rank_once([])  # what only the echo has answered
    return {
        "what": "milliseconds from an event's append to its ranking's, and to its echo's",
        "machine": stand.machine,
        "plan": {"repeats": plan.repeats, "seconds": plan.seconds, "batch": plan.batch, "rate": rate},
        "events_per_second_at_full_speed": full,
        **{
            f"{who}_ms": {quantile: spread([one[quantile] for one in values]) for quantile in values[0]}
            for who, values in waited.items()
        },
        "p99_against_echo": spread(
            [one["p99"] / other["p99"] for one, other in zip(waited["ranker"], waited["echo"], strict=True)]
        ),
    }
