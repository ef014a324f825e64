"""How long a ranker takes to restore so many users, in how much memory, and how fast it ranks for them then."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np

from anabranch import release
from anabranch.cli.state_sizes import measure
from anabranch.harness.bench.fixture import Stand, percentiles, spread
from anabranch.harness.bench.latency import WARMING_S
from anabranch.harness.bench.throughput import stretches
from anabranch.harness.environment.testbed import environment
from anabranch.kafka import clients, topics
from anabranch.kafka.producer import Delivery
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
from anabranch.ranking.types import Slots
from anabranch.ranking.user_state.codec import save
from anabranch.ranking.user_state.store import StateLayout, UserStates
from anabranch.ranking.vocabulary import ItemIds, ReleaseNumbers
from anabranch.release import Manifest
from anabranch.settings import Settings
from producers.pace import FULL_SPEED, Pace

CHUNK = 20_000
USER = "user-%07d"
PURCHASE = EVENT_TYPES.index("purchase")
FIRST_TS = 1_500_000_000_000
STEP_MS = 3_600_000


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    users: tuple[int, ...]
    repeats: int
    events_per_user: int
    events: int
    """Backlog of these users that is ranked at full speed, for each repeat."""
    batch: int
    """Events a ranker takes at once, at most."""
    rate: float
    """Events a second while latency is measured."""
    seconds: float
    """How long that is."""


def run(stand: Stand, plan: Plan) -> dict[str, Any]:
    """For each number of users: save their states as a ranker would, restart rankers on them, and have them rank."""
    manifest = release.opened(release.folders(stand.settings.releases_dir)[0]).manifest
    with _on_topics_for(stand, 0) as apart:
        empty = _restore(apart, 0)
    figures = []
    for users in plan.users:
        with _on_topics_for(stand, users) as apart:
            synthetic = Synthetic(apart, plan.events_per_user, manifest)
            _save(apart.settings, users, synthetic, manifest.id)
            restores = [_restore(apart, users) for _ in range(plan.repeats)]
            speeds = _speeds(apart, synthetic, users, plan)
            waits = percentiles(_waits(apart, synthetic, users, plan))
            figures.append(
                _figures(apart.settings, users, restores, empty)
                | {"events_per_second": spread(speeds), "steady_ms": waits}
            )
    return {
        "what": "synthetic users with real items: restored, and ranked for",
        "machine": stand.machine,
        "plan": {
            "repeats": plan.repeats,
            "events_per_user": plan.events_per_user,
            "backlog": plan.events,
            "rate": plan.rate,
        },
        "users": figures,
    }


class Restored(NamedTuple):
    """One restart."""

    seconds: float
    """From the release's adoption to the last partition's restore."""
    resident_bytes: int


@contextmanager
def _on_topics_for(stand: Stand, users: int) -> Iterator[Stand]:
    """The stand, on topics of its own for so many users, with the stand's release on them."""
    settings = msgspec.structs.replace(
        stand.settings, topic_prefix=f"users-{users}.", max_users=max(users, stand.settings.max_users)
    )
    _copy(stand, settings)
    processes = stand.bed.processes
    before, processes.environment = processes.environment, environment(settings)
    try:
        yield Stand(stand.bed.on(settings), stand.machine)
    finally:
        processes.environment = before


def _restore(stand: Stand, users: int) -> Restored:
    with stand.ranking() as (ranker,):
        stand.bed.wait(
            lambda: ranker.value("anabranch_user_states") == users, "every user", meanwhile=stand.bed.processes.check
        )
        resident = ranker.resident_bytes
    adopted, restored = ranker.told("ranks from now on"), ranker.told("restored partition")
    return Restored((restored - adopted).total_seconds(), resident)


def _speeds(stand: Stand, synthetic: Synthetic, users: int, plan: Plan) -> list[float]:
    """Events a second over backlogs of purchases by any of the users."""
    since = stand.ends()
    _publish(stand, synthetic.purchases(users, plan.repeats * plan.events))
    return stretches(stand, plan.batch, since, plan.repeats)


def _waits(stand: Stand, synthetic: Synthetic, users: int, plan: Plan) -> list[float]:
    """Milliseconds from event to ranking at a steady rate."""
    with stand.ranking(batch_max=plan.batch):
        since = stand.ends()
        events = int(plan.rate * (WARMING_S + plan.seconds))
        _publish(stand, synthetic.purchases(users, events), Pace(per_second=plan.rate))
        stand.drained()
    return [waited for _, waited in stand.waits(since, WARMING_S)]


def _publish(stand: Stand, purchases: Iterable[tuple[int, Event]], pace: Pace = FULL_SPEED) -> None:
    """Publish purchases where their users' states are: partitions go by users' numbers."""
    started = time.monotonic()
    with closing(clients.producer(stand.settings)) as producer:
        for nth, (number, event) in enumerate(purchases):
            time.sleep(max(0.0, started + pace.due_s(nth, 0) - time.monotonic()))
            key, partition = topics.key(event.user_id), number % stand.settings.partitions
            producer.send(stand.bed.topics.events, key=key, value=encode(event), partition=partition)
        producer.flush()


def _figures(settings: Settings, users: int, restores: list[Restored], empty: Restored) -> dict[str, Any]:
    sizes = measure(settings)
    return {
        "users": users,
        "seconds": spread([one.seconds for one in restores]),
        "users_per_second": spread([users / one.seconds for one in restores]),
        "resident_bytes": spread([one.resident_bytes for one in restores]),
        "resident_bytes_without_users": empty.resident_bytes,
        "resident_bytes_per_user": spread([(one.resident_bytes - empty.resident_bytes) / users for one in restores]),
        "saved_bytes_per_user": sizes["saved_bytes_per_user"],
        "memory_bytes_per_user": sizes["memory_bytes_per_user"],
    }


def _copy(stand: Stand, target: Settings) -> None:
    """Topics of another prefix, with the stand's release and item vectors."""
    with closing(clients.admin(target)) as admin:
        topics.provision(admin, target)
    releases = clients.read_to_end(stand.settings, [stand.bed.topics.releases])
    pairs = ((releases, Topics(target).releases), (stand.item_vectors(), Topics(target).item_vectors))
    with closing(clients.producer(target)) as producer, Delivery(producer) as delivery:
        for records, topic in pairs:
            for record in records:
                delivery.send(topic, record.key, record.value)


class Synthetic:
    """States of made-up users: a geometric number of purchases each, of real items drawn as they were really bought."""

    def __init__(self, stand: Stand, events_per_user: int, manifest: Manifest) -> None:
        self._layout = StateLayout.of(stand.settings)
        self._dims = (manifest.dims, manifest.state_dims)
        self._events_per_user = events_per_user
        self._random = np.random.default_rng(0)
        self._item_ids, self._releases = ItemIds(), ReleaseNumbers()
        self._release = self._releases.number(manifest.id)
        history = stand.bed.history
        self._bought = self._item_ids.rows(history.item_ids[item] for item in history.item.tolist())
        self._ts = FIRST_TS
        """Of the newest purchase."""

    def users(self, count: int) -> list[UserState]:
        """Saved states of so many users."""
        states = UserStates(self._layout, *self._dims)
        slots = states.slots(map(str, range(count)))
        events = self._random.geometric(1 / self._events_per_user, count)
        for step in range(int(events.max())):
            self._buy(states, slots[events > step], FIRST_TS + step * STEP_MS)
        self._ts = max(self._ts, FIRST_TS + int(events.max()) * STEP_MS)
        columns = states.columns
        columns.encoded_by[slots] = self._release
        columns.recurrent[slots] = self._random.normal(size=(count, columns.recurrent.shape[1]))
        columns.vector[slots] = self._random.normal(size=(count, columns.vector.shape[1]))
        return save(states, slots, self._item_ids, self._releases)

    def purchases(self, users: int, count: int) -> Iterator[tuple[int, Event]]:
        """So many purchases, each with the number of the user who makes it."""
        for user, item in zip(
            self._random.integers(users, size=count).tolist(),
            self._random.choice(self._bought, count).tolist(),
            strict=True,
        ):
            self._ts += 1
            yield (
                user,
                Event(
                    event_id=f"purchase-{self._ts}",
                    user_id=USER % user,
                    type="purchase",
                    ts=self._ts,
                    item_id=self._item_ids.id(item),
                ),
            )

    def _buy(self, states: UserStates, slots: Slots, ts: int) -> None:
        n = len(slots)
        states.seen_before(slots, self._random.integers(1, 2**63, n).astype(np.uint64))
        states.observe(
            slots,
            self._random.choice(self._bought, n),
            np.full(n, PURCHASE, np.uint8),
            np.full(n, ts, np.int64),
            np.zeros(n, np.uint64),
            duplicate=np.zeros(n, np.bool_),
            asked=np.empty(0, np.int64),
        )


def _save(settings: Settings, users: int, synthetic: Synthetic, name: str) -> None:
    """What a ranker would have left: every user's state, and markers that say they are complete."""
    topic = Topics(settings).user_state
    with closing(clients.producer(settings)) as producer, bar("States saved", users) as advance:
        for start in range(0, users, CHUNK):
            count = min(CHUNK, users - start)
            for number, state in enumerate(synthetic.users(count), start):
                key, partition = topics.key(USER % number), number % settings.partitions
                producer.send(topic, key=key, value=encode_binary(state), partition=partition)
            advance(count)
        marker = StateMarker(offset=0, rankings_offset=0, epochs=[Epoch(0, name)])
        for partition in range(settings.partitions):
            producer.send(topic, key=STATE_MARKER_KEY, value=encode_binary(marker), partition=partition)
        producer.flush()
