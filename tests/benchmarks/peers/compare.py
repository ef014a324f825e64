"""Our ranker and its peers in turn over the same backlogs, and how soon each knows of an event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from anabranch.harness.bench.fixture import Stand, spread
from anabranch.harness.bench.throughput import ranked
from anabranch.messages import Event
from producers.pace import Pace
from tests.benchmarks.peers.peer import STREAMS, UPDATERS, Peers

OURS = "anabranch"
Figures = dict[str, float]


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    repeats: int
    events: int
    """Backlog that our ranker ranks at full speed."""
    peer_events: int
    """The first so many of it are the peers' part."""
    batch: int
    """Events our ranker takes at once, at most."""
    update: int
    """Events a batch updater takes at once."""
    rate: float
    """Events a second while our ranker's freshness is measured."""
    seconds: float
    """How long that is."""


def run(stand: Stand, plan: Plan) -> dict[str, Any]:
    """Ours and every peer that can run, in turn, over the same backlog; a ratio is of the same repeat."""
    skipped = {peer.name: why for peer in (*STREAMS, *UPDATERS) if (why := peer.missing())}
    streams, updaters = ([peer for peer in group if peer.name not in skipped] for group in (STREAMS, UPDATERS))
    peers = Peers(stand, [*streams, *updaters])
    ahead = stand.bed.ahead.events()
    speeds: dict[str, list[float]] = {name: [] for name in (OURS, *(peer.name for peer in (*streams, *updaters)))}
    taken: dict[str, list[float]] = {peer.name: [] for peer in updaters}
    fresh: dict[str, list[float]] = {name: [] for name in (OURS, *(peer.name for peer in updaters))}
    stand.begin()
    for _ in range(plan.repeats):
        since = stand.ends()
        stand.publish(ahead, plan.events)
        speeds[OURS].append(ranked(stand, plan.batch, since).per_second)
        for peer in streams:
            speeds[peer.name].append(peers.speed(peer, since, plan.peer_events).per_second)
        for peer in updaters:
            updates = peers.updates(peer, since, plan.peer_events, plan.update)
            seconds = sum(one.seconds for one in updates)
            speeds[peer.name].append(sum(one.rankings for one in updates) / seconds)
            taken[peer.name].append(sum(one.events for one in updates) / seconds)
            fresh[peer.name].append(freshness_s(seconds / len(updates)))
        fresh[OURS].append(_waited_s(stand, ahead, plan))
    return {
        "what": "rankings a second, ours and of others, and seconds from an event to a ranking that knows it",
        "machine": stand.machine,
        "plan": {name: getattr(plan, name) for name in plan.__dataclass_fields__},
        "skipped": skipped,
        "rankings_per_second": {name: spread(values) for name, values in speeds.items()},
        "events_per_second": {name: spread(values) for name, values in (speeds | taken).items()},
        "ours_against": {name: spread(_ratios(speeds[OURS], values)) for name, values in speeds.items()},
        "freshness_s": {name: spread(values) for name, values in fresh.items()},
    }


def freshness_s(update_s: float, period_s: float = 0.0) -> float:
    """Mean seconds from an event to a ranking that knows it, where updates of so many seconds begin so often.

    They cannot begin more often than one takes, which is what a period of 0 stands for: an event waits half a period
    for the next to begin, and then for its end.
    """
    return max(period_s, update_s) / 2 + update_s


def _waited_s(stand: Stand, ahead: Iterator[Event], plan: Plan) -> float:
    """Mean seconds from an event's append to its ranking's, at a steady rate."""
    since = stand.ends()
    with stand.ranking(batch_max=plan.batch):
        stand.publish(ahead, int(plan.rate * plan.seconds), Pace(per_second=plan.rate))
        stand.drained()
    return mean(waited for _, waited in stand.waits(since)) / 1000


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def show(found: Mapping[str, Any], console: Console) -> None:
    """Print the table, and what was left out."""
    table = Table(
        "", "rankings/s", "ours against it", "events/s", "event to ranking, s", title="The same work, by others"
    )
    columns = [found[name] for name in ("rankings_per_second", "ours_against", "events_per_second", "freshness_s")]
    for name in found["rankings_per_second"]:
        table.add_row(name, *(_told(column[name]) if name in column else "" for column in columns))
    console.print(table)
    for name, why in found["skipped"].items():
        console.print(f"{name} skipped: {why}")


def _told(figures: Figures) -> str:
    form = "{:,.0f} ± {:,.0f}" if figures["mean"] >= 100 else "{:.3g} ± {:.2g}"
    return form.format(figures["mean"], figures["sd"])
