"""Our ranker and its peers in turn over the same backlogs, and how soon each takes an event into account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from anabranch.harness.bench.figures.statistics import Figures, spread
from anabranch.harness.bench.fixture import BenchFixture
from anabranch.harness.bench.throughput import rank_backlog
from anabranch.kafka.offsets import Offsets
from anabranch.messages import Event
from producers.pace import Pace
from tests.benchmarks.peers.peer import STREAMS, UPDATERS, Peer, Peers

OURS = "anabranch"


@dataclass(frozen=True)
class PeersConfig:
    """How much is measured."""

    repeats: int
    events: int
    """Backlog that our ranker ranks at full load."""
    peer_events: int
    """The peers answer the first so many of it."""
    batch: int
    """Our ranker's `batch_max`."""
    update: int
    """Events in one batch of a batch updater."""
    rate: float
    """Events per second while our ranker's freshness is measured."""
    seconds: float
    """How long that is."""


class Measurements:
    """Figures of each repeat, by the name of the ranker."""

    def __init__(self, streams: Sequence[Peer], updaters: Sequence[Peer]) -> None:
        self.rankings_per_second: dict[str, list[float]] = {
            name: [] for name in (OURS, *(peer.name for peer in (*streams, *updaters)))
        }
        self.updates_per_second: dict[str, list[float]] = {peer.name: [] for peer in updaters}
        self.freshness_s: dict[str, list[float]] = {name: [] for name in (OURS, *(peer.name for peer in updaters))}


def run(fixture: BenchFixture, config: PeersConfig) -> dict[str, Any]:
    """Ours and every installed peer, in turn, over the same backlog; a ratio is between figures of the same repeat."""
    skipped = {peer.name: reason for peer in (*STREAMS, *UPDATERS) if (reason := peer.missing())}
    streams, updaters = ([peer for peer in group if peer.name not in skipped] for group in (STREAMS, UPDATERS))
    peers = Peers(fixture, [*streams, *updaters])
    events = fixture.testbed.ahead.events()
    measured = Measurements(streams, updaters)
    fixture.commit_start()
    for _ in range(config.repeats):
        first_offsets = fixture.end_offsets()
        fixture.publish_next(events, config.events)
        ours = rank_backlog(fixture, config.batch, first_offsets).per_second
        measured.rankings_per_second[OURS].append(ours)
        for peer in streams:
            rate = peers.rate(peer, first_offsets, config.peer_events)
            measured.rankings_per_second[peer.name].append(rate.per_second)
        for peer in updaters:
            _measure_updater(peers, peer, first_offsets, config, measured)
        measured.freshness_s[OURS].append(_mean_latency_s(fixture, events, config))
    rates = measured.rankings_per_second
    return {
        "what": "rankings per second, ours and of peers, and seconds from an event to a ranking that includes it",
        "machine": fixture.machine,
        "plan": {name: getattr(config, name) for name in config.__dataclass_fields__},
        "skipped": skipped,
        "rankings_per_second": {name: spread(values) for name, values in rates.items()},
        "events_per_second": {name: spread(values) for name, values in (rates | measured.updates_per_second).items()},
        "ours_against": {name: spread(_ratios(rates[OURS], values)) for name, values in rates.items()},
        "freshness_s": {name: spread(values) for name, values in measured.freshness_s.items()},
    }


def freshness_s(update_s: float, period_s: float = 0.0) -> float:
    """Mean seconds from an event to a ranking that includes it, where an update takes `update_s`.

    An update begins every `period_s`, or, where that is shorter than an update, when the one before ends. An event
    waits half a period on average for the next update to begin, and then for its end.
    """
    return max(period_s, update_s) / 2 + update_s


def show(figures: Mapping[str, Any], console: Console) -> None:
    """Print the table, and the peers that were skipped."""
    table = Table(
        "", "rankings/s", "ours / theirs", "events/s", "event to ranking, s", title="Our ranker and its peers"
    )
    columns = [figures[name] for name in ("rankings_per_second", "ours_against", "events_per_second", "freshness_s")]
    for name in figures["rankings_per_second"]:
        table.add_row(name, *(_format(column[name]) if name in column else "" for column in columns))
    console.print(table)
    for name, reason in figures["skipped"].items():
        console.print(f"{name} skipped: {reason}")


def _measure_updater(
    peers: Peers, peer: Peer, first_offsets: Offsets, config: PeersConfig, measured: Measurements
) -> None:
    updates = peers.updates(peer, first_offsets, config.peer_events, config.update)
    seconds = sum(update.seconds for update in updates)
    measured.rankings_per_second[peer.name].append(sum(update.rankings for update in updates) / seconds)
    measured.updates_per_second[peer.name].append(sum(update.events for update in updates) / seconds)
    measured.freshness_s[peer.name].append(freshness_s(seconds / len(updates)))


def _mean_latency_s(fixture: BenchFixture, events: Iterator[Event], config: PeersConfig) -> float:
    """Mean seconds from an event's append to its ranking's, at a steady rate."""
    first_offsets = fixture.end_offsets()
    with fixture.rankers(batch_max=config.batch):
        fixture.publish_next(events, int(config.rate * config.seconds), Pace(events_per_second=config.rate))
        fixture.await_drained()
    return mean(latency_ms for _, latency_ms in fixture.latencies_ms(first_offsets)) / 1000


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [our / their for our, their in zip(ours, theirs, strict=True)]


def _format(figures: Figures) -> str:
    form = "{:,.0f} ± {:,.0f}" if figures["mean"] >= 100 else "{:.3g} ± {:.2g}"
    return form.format(figures["mean"], figures["sd"])
