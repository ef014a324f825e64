"""Saved states of synthetic users with real items, published as a ranker would, and purchases by these users."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing

import numpy as np

from anabranch.harness.bench.fixture import BenchFixture
from anabranch.kafka import clients, topics
from anabranch.kafka.topics import Topics
from anabranch.messages import (
    EVENT_TYPES,
    STATE_MARKER_KEY,
    Epoch,
    Event,
    StateMarker,
    UserState,
    encode,
    encode_binary,
)
from anabranch.progress_bar import bar
from anabranch.ranking.event_batch import BatchColumns, EventBatch
from anabranch.ranking.pipeline.user_update import replay
from anabranch.ranking.types import Slots
from anabranch.ranking.user_state.codec import save
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary, ReleaseNumbers
from anabranch.release import Manifest
from anabranch.settings import Settings
from producers.pace import FULL_SPEED, Pace

CHUNK = 20_000
USER_ID = "user-%07d"
PURCHASE = EVENT_TYPES.index("purchase")
FIRST_TS = 1_500_000_000_000
EVENT_INTERVAL_MS = 3_600_000


class SyntheticUsers:
    """Users with a geometric number of purchases each, of real items drawn by how often they were really bought."""

    def __init__(self, fixture: BenchFixture, events_per_user: int, manifest: Manifest) -> None:
        self._layout = StateLayout.from_settings(fixture.settings)
        self._dims = (manifest.dims, manifest.state_dims)
        self._events_per_user = events_per_user
        self._random = np.random.default_rng(0)
        self._item_ids, self._releases = ItemVocabulary(), ReleaseNumbers()
        self._release = self._releases.number(manifest.id)
        history = fixture.testbed.history
        self._bought = self._item_ids.rows(history.item_ids[item] for item in history.item.tolist())
        self._newest_ts = FIRST_TS

    def make_states(self, count: int) -> list[UserState]:
        """Saved states of `count` users."""
        states = UserStates(self._layout, *self._dims)
        slots = states.slots(map(str, range(count)))
        events = self._random.geometric(1 / self._events_per_user, count)
        for step in range(int(events.max())):
            self._apply_purchases(states, slots[events > step], FIRST_TS + step * EVENT_INTERVAL_MS)
        self._newest_ts = max(self._newest_ts, FIRST_TS + int(events.max()) * EVENT_INTERVAL_MS)
        columns = states.columns
        columns.encoded_by[slots] = self._release
        columns.recurrent[slots] = self._random.normal(size=(count, columns.recurrent.shape[1]))
        columns.vector[slots] = self._random.normal(size=(count, columns.vector.shape[1]))
        return save(states, slots, self._item_ids, self._releases)

    def purchases(self, user_count: int, count: int) -> Iterator[tuple[int, Event]]:
        """`count` purchases, each with the number of the user who makes it."""
        users = self._random.integers(user_count, size=count).tolist()
        items = self._random.choice(self._bought, count).tolist()
        for user, item in zip(users, items, strict=True):
            self._newest_ts += 1
            event = Event(
                event_id=f"purchase-{self._newest_ts}",
                user_id=USER_ID % user,
                type="purchase",
                ts=self._newest_ts,
                item_id=self._item_ids.id(item),
            )
            yield user, event

    def _apply_purchases(self, states: UserStates, slots: Slots, ts: int) -> None:
        """One purchase of each of these users, at the same time."""
        n = len(slots)
        keys = self._random.integers(1, 2**63, n).astype(np.uint64)
        events = BatchColumns(
            slots=slots,
            items=self._random.choice(self._bought, n),
            types=np.full(n, PURCHASE, np.uint8),
            ts=np.full(n, ts, np.int64),
            sessions=np.zeros(n, np.uint64),
            keys=keys,
        )
        replay(states, EventBatch(events, queries={}))


def publish_states(settings: Settings, user_count: int, synthetic: SyntheticUsers, release: str) -> None:
    """Publish what a ranker would have saved: every user's state, and markers that they are complete."""
    topic = Topics(settings).user_state
    with closing(clients.producer(settings)) as producer, bar("States saved", user_count) as advance:
        for start in range(0, user_count, CHUNK):
            count = min(CHUNK, user_count - start)
            for number, state in enumerate(synthetic.make_states(count), start):
                key, partition = topics.key(USER_ID % number), number % settings.partitions
                producer.send(topic, key=key, value=encode_binary(state), partition=partition)
            advance(count)
        marker = StateMarker(offset=0, rankings_offset=0, epochs=[Epoch(0, release)])
        for partition in range(settings.partitions):
            producer.send(topic, key=STATE_MARKER_KEY, value=encode_binary(marker), partition=partition)
        producer.flush()


def publish_purchases(fixture: BenchFixture, purchases: Iterable[tuple[int, Event]], pace: Pace = FULL_SPEED) -> None:
    """Publish purchases on the partitions of their users' states, which go by the users' numbers."""
    started = time.monotonic()
    with closing(clients.producer(fixture.settings)) as producer:
        for index, (user, event) in enumerate(purchases):
            time.sleep(max(0.0, started + pace.due_s(index, 0) - time.monotonic()))
            key, partition = topics.key(event.user_id), user % fixture.settings.partitions
            producer.send(fixture.testbed.topics.events, key=key, value=encode(event), partition=partition)
        producer.flush()
