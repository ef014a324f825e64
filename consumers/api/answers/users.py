"""Users in the states of a replica: where they are, what ranking needs of them, and what is known of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anabranch.http.messages.serving import NOBODY, KnownEvent, RecentEvent, UserAnswer
from anabranch.kafka.partitions import partition_of
from anabranch.kafka.topics import key
from anabranch.messages import EVENT_TYPES
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.pipeline.user_update import current_snapshots, update_user_states
from anabranch.ranking.types import Slots
from anabranch.ranking.user_state.session import SESSION_GAP_MS
from anabranch.ranking.user_state.snapshot import UserSnapshots
from anabranch.ranking.user_state.user_lists import ring_indices
from consumers.user_states.changelog import Changelog
from consumers.user_states.state_store import StateStore


class Users:
    """Finds users, whatever partition a producer put them in."""

    def __init__(self, store: StateStore, changelog: Changelog, partitions: int) -> None:
        self._store = store
        self._changelog = changelog
        self._partitions = partitions

    def slot(self, user_id: str) -> int | None:
        """The user's slot; None for a user of whom there is no event. An evicted user is loaded.

        Looks first where Kafka's default partitioner puts the user. Raises as `Changelog.load_evicted` does.
        """
        usual = partition_of(key(user_id), self._partitions)
        for partition in (usual, *(number for number in range(self._partitions) if number != usual)):
            self._changelog.load_evicted([user_id], partition)
            slot = self._store.users.slot_of(user_id, partition)
            if slot is not None:
                return slot
        return None

    def snapshots(self, live: ServableRelease, slots: Sequence[int]) -> UserSnapshots:
        """The users in these slots [n] as their newest events left them."""
        queried = np.array(slots, np.int64)
        self._store.users.touch(queried)  # who is asked for is not idle
        return current_snapshots(live, self._store.users, queried)

    def blank(self, live: ServableRelease) -> UserSnapshots:
        """A user without events."""
        return UserSnapshots.empty(1, live.index.dims, self._store.users.layout)

    def after_events(
        self, live: ServableRelease, slot: int | None, events: Sequence[RecentEvent], now_ms: int
    ) -> UserSnapshots:
        """The user in a slot, or a guest, as some more events would leave them. Nothing of these stays."""
        users, own_slot = self._store.users, slot is not None
        # There is no such partition, so that nobody is in the way of a guest.
        slots = np.array([slot], np.int64) if own_slot else users.slots([NOBODY], self._partitions)
        before = users.snapshot(slots)
        try:
            return self._apply(live, slots, events, now_ms)
        finally:
            users.restore(slots, before)
            if not own_slot:
                users.free_slots(slots)

    def _apply(self, live: ServableRelease, slots: Slots, events: Sequence[RecentEvent], now_ms: int) -> UserSnapshots:
        users = self._store.users
        complete = [event.as_event(f"request {number}", now_ms) for number, event in enumerate(events)]
        of_user, appended_ms = np.repeat(slots, len(events)), [now_ms] * len(events)
        batch = EventBatch.from_events(complete, of_user, self._store.items, appended_ms)
        goes_on = now_ms - users.columns.last_ts[slots[0]] <= SESSION_GAP_MS
        sessions = batch.columns.sessions
        sessions[(sessions == 0) & goes_on] = users.columns.session[slots[0]]
        update = update_user_states(live, users, batch, latest=True)
        return update.snapshots if len(update.ranked) else current_snapshots(live, users, slots)

    def describe(self, user_id: str) -> UserAnswer:
        """What is known of a user."""
        slot = self.slot(user_id)
        if slot is None:
            return UserAnswer(user_id=user_id, is_known=False)
        users, items = self._store.users, self._store.items
        columns, lists = users.snapshot(np.array([slot], np.int64))
        filled, ring = ring_indices(columns.event_count, users.layout.history)
        newest_first = ring[0][filled[0]][::-1].tolist()
        history = [
            KnownEvent(
                item_id=items.label(int(lists.history_item[0, index])),
                type=EVENT_TYPES[lists.history_type[0, index]],
                ts=1000 * int(lists.history_s[0, index]),
            )
            for index in newest_first
        ]
        long_term = lists.long_term.item[0, : columns.long_term_size[0]].tolist()
        disliked = columns.disliked_item[0]
        return UserAnswer(
            user_id=user_id,
            is_known=True,
            history=history,
            long_term_items=[items.label(item) for item in long_term],
            disliked=[items.label(item) for item in disliked[disliked >= 0].tolist()],
            last_event_ts=int(columns.last_ts[0]) if columns.last_ts[0] >= 0 else None,
        )
