"""More partitions for the topics that have users as keys: every user whose partition changes takes its state along.

It goes in steps of which each may be cut off and run again:

1. Nothing is written unless all events are ranked, all states saved, and no ranker runs.
2. The markers say that users are being moved, so that no ranker starts before the end.
3. A transaction per some users writes their states in their new partitions and removes them from the old ones.
4. The other topics get their partitions, and the group an offset in each new one: the beginning of its log.
5. The markers of all partitions say that they are spread over the new number.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from kafka.errors import KafkaError
from msgspec import structs

from anabranch.errors import AnabranchError, BrokerFailed
from anabranch.kafka import clients, topic_admin
from anabranch.kafka.partitions import partition_of
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.release_topic import read_release_notices
from anabranch.kafka.topics import KEYED_BY_USER, Topics
from anabranch.kafka.transactional_producer import TransactionalProducer
from anabranch.messages import STATE_MARKER_KEY, Epoch, StateMarker, encode_binary
from anabranch.settings import Settings
from consumers.user_states.changelog import decode_marker, decode_state

log = logging.getLogger(__name__)

USERS_PER_TRANSACTION = 500
DRAIN = "run `anabranch rank --drain` with nothing else ranking, and this command again"


class NotRepartitionable(AnabranchError):
    """The topics are not in a state in which users can be moved; nothing was written."""


@dataclass(frozen=True)
class RepartitionResult:
    """What was done."""

    moved: int
    """Users whose states were moved by this run."""
    before: int
    """Partitions."""
    after: int


@dataclass(frozen=True)
class SavedPartition:
    """One partition of `user-state`, without its states."""

    marker: StateMarker | None
    users: frozenset[bytes]
    """Keys with a state."""


class Repartitioning:
    """Moves the users of one installation to `partitions` partitions. Two at a time fence each other."""

    def __init__(
        self, settings: Settings, partitions: int, on_moved: Callable[[int], None] = lambda users: None
    ) -> None:
        """`on_moved(n)` is called after every n users."""
        self._settings = settings
        self._target = partitions
        self._on_moved = on_moved
        self._topics = Topics(settings)
        self._names = [self._topics.name(name) for name in KEYED_BY_USER]
        self._group = settings.group("ranker")

    def run(self) -> RepartitionResult:
        """Do all steps that are left. Raises `NotRepartitionable`, `StateUnreadable` and `BrokerUnavailable`."""
        with closing(topic_admin.TopicAdmin(self._settings)) as admin:
            try:
                return self._run(admin)
            except KafkaError as error:
                raise BrokerFailed(
                    f"the move of users stopped: {error}. Run the command again, unless another one is running"
                ) from error

    def _run(self, admin: topic_admin.TopicAdmin) -> RepartitionResult:
        partitions = admin.partitions(self._names)
        self._require_growth(partitions)
        self._require_no_ranker(admin)
        with self._producer() as producer:  # which ends the transaction of a run that was killed
            saved = [self._read(number) for number in range(partitions[self._topics.user_state])]
            before = self._before(saved)
            markers = self._markers(saved, before)
            if all(marker.partitions == self._target and not marker.moving_to for marker in markers):
                return RepartitionResult(0, self._target, self._target)
            self._require_homes(saved, before)
            offsets = self._require_saved(admin, markers)
            if self._target != before:  # else a move is taken back, so that the rest can be ranked
                self._require_ranked(offsets, before)
            moving = [structs.replace(marker, moving_to=marker.moving_to or self._target) for marker in markers]
            producer.publish(self._marked(moving), {}, None)
        admin.add_partitions([self._topics.user_state], self._target)
        starts = [offsets.get(number, 0) for number in range(max(self._target, len(saved)))]
        with self._producer() as producer:  # which knows the new partitions
            moved = sum(self._move(producer, number, starts) for number in range(len(saved)))
            admin.add_partitions(self._names, self._target)
            admin.commit_missing(self._group, self._topics.events, dict(enumerate(starts[: self._target])))
            producer.publish(self._marked(self._final_markers(markers, starts)), {}, None)
        return RepartitionResult(moved, before, self._target)

    @contextmanager
    def _producer(self) -> Iterator[TransactionalProducer]:
        with closing(TransactionalProducer(self._settings, f"{self._group}-repartition")) as producer:
            yield producer

    def _require_growth(self, partitions: dict[str, int]) -> None:
        missing = [name for name in self._names if name not in partitions]
        if missing:
            raise NotRepartitionable(f"{', '.join(missing)} are missing: `anabranch topics provision` creates them")
        if partitions[self._topics.events] > self._target and partitions[self._topics.user_state] <= self._target:
            raise NotRepartitionable(
                f"{self._topics.events} has {partitions[self._topics.events]} partitions, and Kafka takes none away: "
                f"move users to at least as many"
            )

    def _require_no_ranker(self, admin: topic_admin.TopicAdmin) -> None:
        members = admin.members(self._group)
        if members:
            raise NotRepartitionable(
                f"{members} processes of group {self._group} are running: stop the producers of events, {DRAIN}"
            )

    def _read(self, number: int) -> SavedPartition:
        marker, users = None, set[bytes]()
        for record in clients.read_to_end(self._settings, [self._topics.user_state], partitions=[number]):
            key = record.key or STATE_MARKER_KEY
            if key == STATE_MARKER_KEY:
                marker = decode_marker(record)
            elif record.value is None:
                users.discard(key)
            else:
                users.add(key)
        return SavedPartition(marker, frozenset(users))

    def _before(self, saved: Sequence[SavedPartition]) -> int:
        """Over how many partitions the users are spread, by the markers."""
        known = {partition.marker.partitions for partition in saved if partition.marker is not None}
        if 0 in known or not known:
            raise NotRepartitionable(f"the saved states do not say over how many partitions users are spread: {DRAIN}")
        return min(known)

    def _markers(self, saved: Sequence[SavedPartition], before: int) -> list[StateMarker]:
        """The newest marker of each partition that users are in."""
        markers = [partition.marker for partition in saved[:before] if partition.marker is not None]
        if len(markers) < before:
            raise NotRepartitionable(
                f"{before - len(markers)} partitions of {self._topics.user_state} have no marker: {DRAIN}"
            )
        for marker in markers:
            if marker.group != self._group:
                raise NotRepartitionable(
                    f"{self._topics.user_state} has the user states of ranker group {marker.group}: set ranker_group "
                    "to that name"
                )
            if marker.moving_to not in (0, self._target) and self._target != before:
                raise NotRepartitionable(
                    f"users are being moved to {marker.moving_to} partitions: finish that with --partitions "
                    f"{marker.moving_to}, or take it back with --partitions {before}"
                )
        return markers

    def _require_homes(self, saved: Sequence[SavedPartition], before: int) -> None:
        """Every user must be where Kafka's default partitioner puts it, before the move or after it, and once."""
        seen, twice, elsewhere = set[bytes](), 0, 0
        for number, partition in enumerate(saved):
            twice += len(seen & partition.users)
            seen |= partition.users
            elsewhere += sum(
                number
                not in (partition_of(user, before), partition_of(user, self._target), self._moving_home(user, saved))
                for user in partition.users
            )
        if elsewhere:
            raise NotRepartitionable(
                f"{elsewhere} users are not where Kafka's default partitioner (murmur2) puts them, so their next "
                "partition is not known: a producer of events uses another partitioner. Use a new topic_prefix instead"
            )
        if twice:
            raise NotRepartitionable(
                f"{twice} users have states in two partitions, so neither holds all of their events. Empty "
                f"{self._topics.user_state}: user states are then rebuilt from the events that are kept"
            )

    def _moving_home(self, user: bytes, saved: Sequence[SavedPartition]) -> int:
        """Where an unfinished move puts a user."""
        marker = saved[0].marker
        return partition_of(user, marker.moving_to) if marker is not None and marker.moving_to else -1

    def _require_saved(self, admin: topic_admin.TopicAdmin, markers: Sequence[StateMarker]) -> dict[int, int]:
        """The next offset of each partition of `events`: every event before it is in a saved state."""
        events = self._topics.events
        committed, starts = admin.committed(self._group, events), admin.beginnings(events)
        for number, marker in enumerate(markers):
            if marker.offset != committed.get(number, starts[number]):
                raise NotRepartitionable(f"not every user state of partition {number} is saved: {DRAIN}")
        return starts | committed

    def _require_ranked(self, offsets: dict[int, int], before: int) -> None:
        unread = clients.read_from(self._settings, self._topics.events, offsets)
        behind = sum(record.partition < before for record in unread)
        if behind:
            raise NotRepartitionable(
                f"{behind} events are not ranked yet: stop the producers of events, {DRAIN}. If users are being moved "
                f"already, take that back first with --partitions {before}"
            )

    def _move(self, producer: TransactionalProducer, number: int, starts: Sequence[int]) -> int:
        """Move the users of a partition who belong elsewhere; how many."""
        leaving: dict[bytes, OutboundRecord] = {}
        for record in clients.read_to_end(self._settings, [self._topics.user_state], partitions=[number]):
            key = record.key or STATE_MARKER_KEY
            home = partition_of(key, self._target)
            if key == STATE_MARKER_KEY or home == number:
                continue
            leaving.pop(key, None)
            if record.value is not None:
                state = structs.replace(decode_state(record, ()), next_offset=starts[home])
                leaving[key] = OutboundRecord(self._topics.user_state, key, encode_binary(state), home)
        users = list(leaving.values())
        for first in range(0, len(users), USERS_PER_TRANSACTION):
            chunk = users[first : first + USERS_PER_TRANSACTION]
            producer.publish([*chunk, *(user._replace(value=None, partition=number) for user in chunk)], {}, None)
            self._on_moved(len(chunk))
        return len(users)

    def _final_markers(self, markers: Sequence[StateMarker], starts: Sequence[int]) -> list[StateMarker]:
        """A new partition's states were encoded by what ranked in the others."""
        done = [structs.replace(marker, partitions=self._target, moving_to=0) for marker in markers]
        ranked_by = self._ranked_by(markers)
        for number in range(len(done), self._target):
            epochs = [] if ranked_by is None else [Epoch(starts[number], ranked_by)]
            done.append(structs.replace(done[0], offset=starts[number], rankings_offset=0, epochs=epochs, rebases=[]))
        return done

    def _ranked_by(self, markers: Sequence[StateMarker]) -> str | None:
        """The release that ranked last: the live one if it ranked in any partition."""
        newest = [marker.epochs[-1].release for marker in markers if marker.epochs]
        live = read_release_notices(self._settings).live
        if live is not None and live.release in newest:
            return live.release
        return newest[-1] if newest else None

    def _marked(self, markers: Iterable[StateMarker]) -> list[OutboundRecord]:
        return [
            OutboundRecord(self._topics.user_state, STATE_MARKER_KEY, encode_binary(marker), number)
            for number, marker in enumerate(markers)
        ]
