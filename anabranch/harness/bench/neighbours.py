"""The neighbours job: events per second that it counts, all items' or a shard's, and how soon a new pair has a row."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from anabranch import messages
from anabranch.co_visit.shard import WHOLE, Shard
from anabranch.errors import UsageError
from anabranch.harness.bench.figures.statistics import Figures, percentiles, spread
from anabranch.harness.bench.fixture import BenchFixture
from anabranch.harness.environment.processes import free_ports
from anabranch.harness.environment.ranker_probe import ProcessProbe
from anabranch.kafka import clients
from anabranch.messages import Event
from consumers.neighbours import saved_counts
from producers.pace import Pace

COUNTED = "anabranch_neighbours_events_total"
SAMPLE_S = 0.05


@dataclass(frozen=True)
class NeighboursConfig:
    """How much is measured."""

    repeats: int
    """Starts of the job without anything saved."""
    events: int
    """Events that it counts, besides the history."""
    rate: float
    """Events per second while new pairs come."""
    pairs: int
    """New pairs, one a second."""
    shards: int
    """Processes among which the items are shared where the job of one shard is measured."""


def run(fixture: BenchFixture, config: NeighboursConfig) -> dict[str, Any]:
    """The job counts a backlog at full speed; then it counts paced events with pairs of items that are new."""
    events = fixture.testbed.ahead.events()
    fixture.publish_next(events, config.events)
    total = sum(fixture.end_offsets().values())
    read_alone = [_read_alone(fixture, total) for _ in range(config.repeats)]
    shards = (WHOLE, Shard(0, config.shards))
    in_turn = [[_count_backlog(fixture, total, shard) for shard in shards] for _ in range(config.repeats)]
    counted, of_shard = zip(*in_turn, strict=True)
    return {
        "what": "events that the neighbours job counts per second, and the time from a pair's last event to its row",
        "machine": fixture.machine,
        "plan": {**asdict(config), "events": total},
        "events_per_second": spread(counted),
        "reading_alone_events_per_second": spread(read_alone),
        "of_reading_alone": spread([ours / alone for ours, alone in zip(counted, read_alone, strict=True)]),
        "shard_events_per_second": spread(of_shard),
        "shard_of_whole": spread([shard / whole for shard, whole in zip(of_shard, counted, strict=True)]),
        "freshness_ms": _measure_freshness(fixture, config, events),
    }


def pairs_among(events: Iterable[Event], every: int, users: int) -> Iterator[Event]:
    """The events, and after every `every` of them a pair of items that are new, which so many users buy together."""
    events, number = iter(events), 0
    while chunk := list(islice(events, every)):
        yield from chunk
        for user in range(users):
            for side in ("left", "right"):
                event_id = f"pair-{number}-{user}-{side}"
                yield Event(
                    event_id=event_id,
                    user_id=f"pair-{number}-{user}",
                    type="purchase",
                    item_id=f"pair-{number}-{side}",
                    ts=chunk[-1].ts,
                    session_id=event_id.removesuffix(side),
                )
        number += 1


def freshness_ms(last_event_ms: Mapping[str, int], first_row_ms: Mapping[str, int]) -> list[float]:
    """Milliseconds from the last event about each item to the first row that has a neighbour of it.

    Raises `UsageError` if an item has no such row.
    """
    missing = last_event_ms.keys() - first_row_ms.keys()
    if missing:
        raise UsageError(f"{len(missing)} of {len(last_event_ms)} new items have no row: the job did not keep up")
    return [float(first_row_ms[item] - at_ms) for item, at_ms in last_event_ms.items()]


@contextmanager
def _job(fixture: BenchFixture, shard: Shard = WHOLE) -> Iterator[ProcessProbe]:
    """The job of a shard, in a process, without anything saved by an earlier one."""
    shutil.rmtree(saved_counts.path_of(fixture.settings).parent, ignore_errors=True)
    [port] = free_ports(1)
    settings = ("live_neighbours=true", f"neighbours_shard={shard.number}", f"neighbours_shards={shard.count}")
    options = [part for setting in settings for part in ("--set", setting)]
    process = fixture.testbed.processes.start(*options, "neighbours", "--metrics-port", str(port))
    yield ProcessProbe(port)  # where the block raises, all processes are stopped with the fixture
    process.stop()


def _count_backlog(fixture: BenchFixture, total: int, shard: Shard) -> float:
    """Events per second from the first sample with any to the one with all of them."""
    with _job(fixture, shard) as probe:
        fixture.wait_until(lambda: probe.total(COUNTED) > 0, "the job counts")
        first, started = probe.total(COUNTED), time.perf_counter()
        while (counted := probe.total(COUNTED)) < total:
            fixture.testbed.processes.check()
            time.sleep(SAMPLE_S)
        return (counted - first) / (time.perf_counter() - started)


def _read_alone(fixture: BenchFixture, total: int) -> float:
    """Events per second that a process reads and decodes, and does nothing with."""
    started = time.perf_counter()
    for record in clients.read_from(fixture.settings, fixture.testbed.topics.events, {}):
        messages.events.decode(record.value)
    return total / (time.perf_counter() - started)


def _measure_freshness(fixture: BenchFixture, config: NeighboursConfig, events: Iterator[Event]) -> Figures:
    topics, first_offsets = fixture.testbed.topics, fixture.end_offsets()
    with _job(fixture) as probe:
        fixture.wait_until(probe.is_ready, "the job is ready")
        chosen = islice(events, int(config.rate * config.pairs))
        users = fixture.settings.min_pair_users
        fixture.testbed.publish(pairs_among(chosen, int(config.rate), users), Pace(events_per_second=config.rate))
        last_event_ms = {
            event.item_id: record.timestamp
            for record in clients.read_from(fixture.settings, topics.events, first_offsets)
            if (event := messages.events.decode(record.value)).event_id.startswith("pair-")
        }
        row_ms, next_offsets = dict[str, int](), dict[int, int]()

        def has_all_rows() -> bool:
            for record in clients.read_from(fixture.settings, topics.neighbours, next_offsets):
                next_offsets[record.partition] = record.offset + 1
                row = messages.neighbours.decode(record.value)
                if row.item_id in last_event_ms and row.neighbours:
                    row_ms.setdefault(row.item_id, record.timestamp)
            return len(row_ms) == len(last_event_ms)

        fixture.wait_until(has_all_rows, "every new item has a row")
    return percentiles(freshness_ms({str(item): at_ms for item, at_ms in last_event_ms.items()}, row_ms))
