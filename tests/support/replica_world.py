"""A replica on Kafka in memory, a turn at a time, beside the rankers of a `RankerWorld`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from prometheus_client import CollectorRegistry

from anabranch.kafka.topics import Topics
from anabranch.messages import Item
from anabranch.ranking.retrieval.item_attributes import ItemAttributes
from anabranch.ranking.types import Vectors
from anabranch.settings import Settings
from consumers.api.answers.answering import Answering
from consumers.api.answers.queries import Answer, ItemsAnswer, Query, SlateQuery
from consumers.api.routes.metrics import ApiMetrics
from consumers.releases.updates import SwapRelease
from consumers.replica.replica import Replica, ReplicaClients
from consumers.user_states.state_store import StateStore
from tests.support.in_memory_kafka import InMemoryKafka
from tests.support.ranker_world import CATALOGUE, RankerWorld, ScriptedReleases, partition_of
from tests.support.releases import live_release


class InMemoryLogSource:
    """A `LogSource` that has whatever the logs have."""

    def __init__(self, kafka: InMemoryKafka) -> None:
        self._kafka = kafka
        self._positions: dict[TopicPartition, int] = {}
        self.starts: list[Mapping[TopicPartition, int]] = []
        self.closed = False

    def start(self, positions: Mapping[TopicPartition, int]) -> None:
        self.starts.append(positions)
        self._positions = dict(positions)

    def take(self, limit: int) -> list[ConsumerRecord]:
        taken: list[ConsumerRecord] = []
        for source, position in self._positions.items():
            records = self._kafka.read(source, position, position + limit - len(taken))
            self._positions[source] += len(records)
            taken += records
        return taken

    def end_offsets(self) -> dict[TopicPartition, int]:
        return {source: self._kafka.end(*source) for source in self._positions}

    def close(self) -> None:
        self.closed = True


class ReplicaProcess:
    """One replica: its memory goes with it, the logs stay."""

    def __init__(self, world: RankerWorld, release: str | None = "r1", **settings: Any) -> None:
        self.settings = Settings(**world.settings | settings)
        self.registry = CollectorRegistry()
        self.metrics = ApiMetrics(self.registry, Topics(self.settings).events)
        self.store = StateStore.new(self.settings)
        self.releases = ScriptedReleases()
        self.source = InMemoryLogSource(world.kafka)
        clients = ReplicaClients(self.source, world.kafka.log_reader(), world.clock.clock())
        self.replica = Replica(self.settings, self.store, clients, self.releases, self.metrics)
        self.answering = Answering(self.settings, self.replica, world.clock.clock().wall)
        self._world = world
        if release is not None:
            self.go_live(release)

    def go_live(self, release_id: str) -> None:
        """The watcher has a release ready."""
        live = live_release(self._world.release(release_id), self.store.items, CATALOGUE)
        self.releases.updates.append(SwapRelease(live))

    def settle(self) -> None:
        """Turns until there is nothing to do."""
        for _ in range(300):
            self._world.clock.advance(0.3)
            if not self.replica.run_once() and self.replica.waits_for is None:
                return
        raise AssertionError(f"the replica does not settle in 300 turns: {self.replica.waits_for}")

    def answer(self, query: Query) -> Any:
        """The answer to a query. Raises the problem, if it met one."""
        (outcome,) = self.answering.answer([query])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def answers(self, queries: Sequence[Query]) -> list[Answer]:
        """The answers to queries that arrive together."""
        outcomes = self.answering.answer(queries)
        assert not any(isinstance(outcome, Exception) for outcome in outcomes), outcomes
        return outcomes  # type: ignore[return-value]

    def vectors(self, item_ids: Sequence[str]) -> Vectors:
        """Of items [n, d], by the live release."""
        return self.replica.model.required_live.index.vectors(self.store.items.rows(item_ids))

    def vector(self, user_id: str) -> Vectors:
        """Of a user [d], as the newest event left it."""
        slot = self.store.users.slot_of(user_id, partition_of(user_id))
        vector: Vectors = self.store.users.columns.vector[slot].astype(np.float32)
        return vector

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"anabranch_{name}", labels)


def set_popularity(replica: ReplicaProcess, item_ids: list[str]) -> None:
    """The first is the most popular."""
    for number, item_id in enumerate(item_ids):
        row, none = replica.store.items.row(item_id), np.empty(0, np.int32)
        co_visits = replica.replica.model.co_visits
        co_visits.set(row, none, np.empty(0, np.float32), 0.5 / (1 + number), 0, 0.2)


def set_neighbours(replica: ReplicaProcess, item_id: str, neighbours: dict[str, float]) -> None:
    rows, weights = replica.store.items.rows(neighbours), np.array(list(neighbours.values()), np.float32)
    replica.replica.model.co_visits.set(replica.store.items.row(item_id), rows, weights, 0.1, 0, 0.2)


def describe(replica: ReplicaProcess, **attributes: dict[str, object]) -> None:
    """Give items of the catalogue categories, prices and so on, by number."""
    assert replica.replica.model.live is not None
    index = replica.replica.model.live.index
    described = [Item(item_id=item_id, title="", **attributes.get(item_id, {})) for item_id in CATALOGUE]  # type: ignore[arg-type]
    rows = replica.store.items.rows(CATALOGUE)
    hashes = replica.store.items.hashes(rows)
    index.upsert(rows, index.vectors(rows), np.ones(len(rows), np.bool_), hashes, ItemAttributes.of(described))


def slate_of(user_id: str | None, limit: int = 5, **fields: object) -> SlateQuery:
    return SlateQuery(user_id, str(fields.pop("placement", "for_you")), limit, **fields)  # type: ignore[arg-type]


def ids(answer: ItemsAnswer) -> list[str]:
    return [item.item_id for item in answer.items]


def settled(world: RankerWorld, **settings: object) -> ReplicaProcess:
    replica = ReplicaProcess(world, **settings)
    replica.settle()
    return replica
