"""One ranker with some number of users: time and memory to restore them, then its speed and latency."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from anabranch import release
from anabranch.harness.bench.figures.statistics import percentiles, spread
from anabranch.harness.bench.fixture import BenchFixture
from anabranch.harness.bench.latency import WARMUP_S
from anabranch.harness.bench.synthetic_users import SyntheticUsers, publish_purchases, publish_states
from anabranch.harness.bench.throughput import rank_in_segments
from anabranch.harness.environment.testbed import child_environment
from anabranch.inspection.state_sizes import measure
from anabranch.kafka import clients, topics
from anabranch.kafka.producer import CheckedProducer
from anabranch.kafka.topics import Topics
from anabranch.settings import Settings
from producers.pace import Pace


@dataclass(frozen=True)
class UsersConfig:
    """How much is measured."""

    users: tuple[int, ...]
    """Numbers of users; each is measured."""
    repeats: int
    events_per_user: int
    events: int
    """Backlog ranked at full load, per repeat."""
    batch: int
    """The ranker's `batch_max`."""
    rate: float
    """Events per second while latency is measured."""
    seconds: float
    """How long latency is measured."""


class RestoreResult(NamedTuple):
    """One restart of a ranker."""

    seconds: float
    """From the adoption of the release to the last partition's restore."""
    resident_bytes: int


def run(fixture: BenchFixture, config: UsersConfig) -> dict[str, Any]:
    """For each number of users: publish their saved states, restart rankers on them, and rank events of these users."""
    manifest = release.open_release(release.folders(fixture.settings.releases_dir)[0]).manifest
    with _topics_for(fixture, 0) as no_users:
        empty = _restore(no_users, 0)
    figures = []
    for user_count in config.users:
        with _topics_for(fixture, user_count) as with_users:
            synthetic = SyntheticUsers(with_users, config.events_per_user, manifest)
            publish_states(with_users.settings, user_count, synthetic, manifest.id)
            restores = [_restore(with_users, user_count) for _ in range(config.repeats)]
            rates = _rates(with_users, synthetic, user_count, config)
            latencies = percentiles(_latencies_ms(with_users, synthetic, user_count, config))
            figures.append(
                _figures(with_users.settings, user_count, restores, empty)
                | {"events_per_second": spread(rates), "steady_ms": latencies}
            )
    return {
        "what": "synthetic users with real items: restore, speed and latency",
        "machine": fixture.machine,
        "plan": {
            "repeats": config.repeats,
            "events_per_user": config.events_per_user,
            "backlog": config.events,
            "rate": config.rate,
        },
        "users": figures,
    }


@contextmanager
def _topics_for(fixture: BenchFixture, user_count: int) -> Iterator[BenchFixture]:
    """The fixture with separate topics for so many users, which hold the fixture's release."""
    settings = msgspec.structs.replace(
        fixture.settings, topic_prefix=f"users-{user_count}.", max_users=max(user_count, fixture.settings.max_users)
    )
    _copy_release(fixture, settings)
    processes = fixture.testbed.processes
    before, processes.environment = processes.environment, child_environment(settings)
    try:
        yield BenchFixture(fixture.testbed.with_settings(settings), fixture.indexer, fixture.machine)
    finally:
        processes.environment = before


def _copy_release(fixture: BenchFixture, target: Settings) -> None:
    """Create the topics of `target`, and copy the release notices and the item vectors onto them."""
    with closing(clients.admin(target)) as admin:
        topics.provision(admin, target)
    notices = clients.read_to_end(fixture.settings, [fixture.testbed.topics.releases])
    copies = ((notices, Topics(target).releases), (fixture.item_vector_records(), Topics(target).item_vectors))
    with closing(clients.producer(target)) as producer, CheckedProducer(producer) as delivery:
        for records, topic in copies:
            for record in records:
                delivery.send(topic, record.key, record.value)


def _restore(fixture: BenchFixture, user_count: int) -> RestoreResult:
    with fixture.rankers() as (ranker,):
        fixture.wait_until(
            lambda: ranker.probe.total("anabranch_user_states") == user_count, "the ranker holds every user"
        )
        resident_bytes = ranker.process.resident_bytes
    return RestoreResult(ranker.restore_seconds(), resident_bytes)


def _rates(fixture: BenchFixture, synthetic: SyntheticUsers, user_count: int, config: UsersConfig) -> list[float]:
    """Events per second over backlogs of purchases by any of the users."""
    first_offsets = fixture.end_offsets()
    publish_purchases(fixture, synthetic.purchases(user_count, config.repeats * config.events))
    return rank_in_segments(fixture, config.batch, first_offsets, config.repeats)


def _latencies_ms(
    fixture: BenchFixture, synthetic: SyntheticUsers, user_count: int, config: UsersConfig
) -> list[float]:
    """Milliseconds from event to ranking at a steady rate."""
    with fixture.rankers(batch_max=config.batch):
        first_offsets = fixture.end_offsets()
        count = int(config.rate * (WARMUP_S + config.seconds))
        publish_purchases(fixture, synthetic.purchases(user_count, count), Pace(events_per_second=config.rate))
        fixture.await_drained()
    return [latency_ms for _, latency_ms in fixture.latencies_ms(first_offsets, WARMUP_S)]


def _figures(
    settings: Settings, user_count: int, restores: list[RestoreResult], empty: RestoreResult
) -> dict[str, Any]:
    sizes = measure(settings)
    return {
        "users": user_count,
        "seconds": spread([restore.seconds for restore in restores]),
        "users_per_second": spread([user_count / restore.seconds for restore in restores]),
        "resident_bytes": spread([restore.resident_bytes for restore in restores]),
        "resident_bytes_without_users": empty.resident_bytes,
        "resident_bytes_per_user": spread(
            [(restore.resident_bytes - empty.resident_bytes) / user_count for restore in restores]
        ),
        "saved_bytes_per_user": sizes["saved_bytes_per_user"],
        "memory_bytes_per_user": sizes["memory_bytes_per_user"],
    }
