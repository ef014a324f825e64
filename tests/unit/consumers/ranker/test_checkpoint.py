"""Which user states a transaction saves, and the offsets in its marker."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from anabranch import messages
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.messages import STATE_MARKER_KEY, Epoch, StateMarker
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary, ReleaseNumbers
from anabranch.settings import Settings
from consumers.ranker.checkpoint import (
    CheckpointCoordinator,
    CheckpointPlan,
    DirtyUser,
    FirstEvent,
    OffsetRange,
    PartitionCheckpoint,
)
from consumers.user_states.state_owner import StateOwner
from consumers.user_states.state_store import StateStore
from tests.support.layouts import LAYOUT

TOPICS = Topics(Settings())
INTERVAL_S = 5.0
OWNER = StateOwner("rankers", partitions=2)
NO_MARKER = StateMarker(offset=0, rankings_offset=0, epochs=[], group="rankers", partitions=2)


class Log:
    """The checkpoints of one partition, and a broker that assigns offsets to their records."""

    def __init__(self) -> None:
        self.states = UserStates(LAYOUT, 4, 4)
        store = StateStore(self.states, ItemVocabulary(), ReleaseNumbers())
        self.coordinator = CheckpointCoordinator(TOPICS, store, INTERVAL_S, OWNER, state_format=2)
        self.checkpoints = {0: PartitionCheckpoint(NO_MARKER, next_offset=0, rankings_end=0)}
        self.written: list[OutboundRecord] = []
        self.end = 0

    def plan(self, events: Mapping[int, str], now: float, release: str = "r1") -> list[CheckpointPlan]:
        """Plan a checkpoint with a batch of events, given as users by offset."""
        first: dict[int, FirstEvent] = {}
        for offset, user in events.items():
            first.setdefault(int(self.states.slots([user])[0]), FirstEvent(offset, user))
        ranges = {0: OffsetRange(min(events), max(events) + 1, first)} if events else {}
        return self.coordinator.plan(self.checkpoints, ranges, release, now)

    def commit(
        self, plans: list[CheckpointPlan], now: float, rankings: int = 0, offsets_known: bool = True
    ) -> list[OutboundRecord]:
        """Commit the plans together with `rankings` rankings; the records written to `user-state`."""
        written = list(self.coordinator.records(self.checkpoints, plans))
        ranked = [OutboundRecord(TOPICS.rankings, b"u", b"", 0) for _ in range(rankings)]
        published = []
        for message in [*ranked, *written]:
            published.append((message, self.end if offsets_known else -1))
            self.end += 1
        self.coordinator.on_commit(self.checkpoints, plans, published, now)
        self.written += written
        return written

    def batch(self, events: Mapping[int, str], now: float, release: str = "r1") -> list[OutboundRecord]:
        return self.commit(self.plan(events, now, release), now, rankings=len(events))

    @property
    def dirty_users(self) -> int:
        return sum(len(checkpoint.dirty) for checkpoint in self.checkpoints.values())

    @property
    def marker(self) -> StateMarker:
        """The marker that was written last."""
        newest = [message.value for message in self.written if message.key == STATE_MARKER_KEY][-1]
        assert newest is not None
        return messages.state_markers.decode(newest)


@pytest.fixture
def log() -> Log:
    return Log()


def users(written: list[OutboundRecord]) -> list[bytes | None]:
    return [message.key for message in written if message.key != STATE_MARKER_KEY]


def test_a_state_is_saved_once_it_has_been_ahead_of_its_saved_form_for_the_interval(log: Log) -> None:
    assert users(log.batch({0: "ann", 1: "bob"}, now=0)) == []
    assert users(log.batch({2: "ann", 3: "cat"}, now=4.9)) == []
    assert users(log.batch({4: "dan"}, now=5)) == [b"ann", b"bob"]
    assert log.dirty_users == 2


def test_the_marker_is_the_first_event_that_no_saved_state_has(log: Log) -> None:
    log.batch({0: "ann", 1: "bob"}, now=0)
    log.batch({2: "ann", 3: "cat"}, now=3)
    log.batch({4: "dan"}, now=5)
    assert log.marker.offset == 3, "all events of ann and bob are saved, and none of cat"


def test_the_marker_is_the_end_offset_once_all_states_are_saved(log: Log) -> None:
    log.batch({0: "ann"}, now=0)
    log.commit(log.plan({}, now=5), now=5)
    assert log.marker.offset == 1


def test_a_user_saved_with_the_batch_that_touches_them_is_saved_with_it(log: Log) -> None:
    log.batch({0: "ann"}, now=0)
    log.batch({1: "ann"}, now=5)
    assert log.marker.offset == 2
    assert log.dirty_users == 0


def test_a_user_whom_the_next_batch_updates_while_they_are_saved_stays_dirty(log: Log) -> None:
    log.batch({0: "ann"}, now=0)
    saving = log.plan({}, now=10)
    written = log.commit(saving, now=10)
    assert users(written) == [b"ann"]
    slot = log.states.slot_of("ann")
    assert not log.states.columns.dirty[slot]
    assert users(log.batch({1: "ann"}, now=10)) == [], "ranked before that was committed, planned after it"
    assert log.states.columns.dirty[slot]
    assert users(log.batch({}, now=20)) == [b"ann"]


def test_a_checkpoint_that_is_not_committed_changes_nothing(log: Log) -> None:
    log.batch({0: "ann"}, now=0)
    log.plan({1: "bob"}, now=5)
    assert log.dirty_users == 1
    assert users(log.batch({1: "bob"}, now=5)) == [b"ann"]
    assert log.marker.offset == 1


def test_the_marker_names_a_release_before_it_ranks_the_partition(log: Log) -> None:
    written = log.batch({10: "ann"}, now=0, release="r1")
    assert [message.key for message in written] == [STATE_MARKER_KEY]
    assert log.marker.epochs == [Epoch(10, "r1")]
    log.batch({11: "ann"}, now=1, release="r2")
    assert log.marker.epochs == [Epoch(10, "r1"), Epoch(11, "r2")]


def test_an_epoch_that_ended_before_the_marker_is_omitted(log: Log) -> None:
    log.batch({10: "ann"}, now=0, release="r1")
    log.batch({11: "bob"}, now=1, release="r2")
    log.commit(log.plan({}, now=5), now=5)
    assert (log.marker.offset, log.marker.epochs) == (11, [Epoch(11, "r2")])


def test_events_that_update_no_user_begin_no_epoch(log: Log) -> None:
    log.commit(log.coordinator.plan(log.checkpoints, {0: OffsetRange(5, 9, {})}, "r1", 0), now=0)
    assert log.written == []
    log.commit(log.plan({}, now=5), now=5)
    assert (log.marker.offset, log.marker.epochs) == (9, [])


def test_the_marker_holds_the_offset_of_the_first_ranking_after_it(log: Log) -> None:
    log.batch({0: "ann", 1: "bob"}, now=0)
    second = log.end
    log.batch({2: "cat"}, now=3)
    log.commit(log.plan({}, now=5), now=5)
    assert log.marker.offset == 2
    assert 2 <= log.marker.rankings_offset <= second, "no earlier than the rankings before, no later than cat's"


def test_a_saved_state_of_unknown_offset_is_saved_again(log: Log) -> None:
    """The answer to the commit was lost, and only a state of known offset may be evicted."""
    log.batch({0: "ann"}, now=0)
    log.commit(log.plan({}, now=5), now=5, offsets_known=False)
    slot = int(log.states.slots(["ann"])[0])
    assert log.states.columns.dirty[slot]
    assert users(log.commit(log.plan({}, now=6), now=6)) == [b"ann"]
    assert not log.states.columns.dirty[slot]
    assert log.states.columns.saved_at[slot] >= 0


def test_a_partition_without_events_is_saved_along_with_another_ones(log: Log) -> None:
    log.checkpoints[1] = PartitionCheckpoint(NO_MARKER, next_offset=7, rankings_end=0)
    slot = int(log.states.slots(["eve"], [1])[0])
    ranges = {1: OffsetRange(7, 8, {slot: FirstEvent(7, "eve")})}
    log.commit(log.coordinator.plan(log.checkpoints, ranges, "r1", 0), now=0)
    plans = log.plan({0: "ann"}, now=5)
    assert {plan.partition: plan.events.end for plan in plans} == {0: 1, 1: 8}


def test_users_that_recovery_replayed_are_dirty(log: Log) -> None:
    slot = int(log.states.slots(["ann"])[0])
    log.states.columns.dirty[slot] = True
    marker = StateMarker(offset=3, rankings_offset=2, epochs=[Epoch(0, "r1")])
    log.checkpoints[0] = PartitionCheckpoint(marker, 9, 5, dirty={slot: DirtyUser(4, 0.0, "ann")})
    assert log.states.columns.dirty[slot]
    log.commit(log.plan({}, now=5), now=5)
    assert users(log.written) == [b"ann"]
    assert log.marker.offset == 9
