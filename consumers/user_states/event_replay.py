"""Events of the log applied to user states without ranking: at a recovery, and wherever states follow the log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.pipeline.user_update import replay
from anabranch.ranking.types import Slots
from consumers.runtime.decoding import DecodedEvent
from consumers.user_states.changelog import Changelog
from consumers.user_states.state_store import StateStore


def replay_events(
    store: StateStore,
    changelog: Changelog,
    events: Sequence[DecodedEvent],
    live: ServableRelease | None,
) -> tuple[Slots, Sequence[DecodedEvent]]:
    """Apply events that are not in their users' states yet. Those of each partition are in log order.

    `live`: the release that ranked them, see `replay`. Returns these events [n], with the slots [n] of their users,
    whose states are dirty now: they have what their saved forms have not.
    """
    users = store.users
    by_partition: dict[int, list[str]] = defaultdict(list)
    for event in events:
        by_partition[event.partition].append(event.event.user_id)
    for partition, user_ids in by_partition.items():
        changelog.load_evicted(user_ids, partition)
    slots = users.slots([event.event.user_id for event in events], [event.partition for event in events])
    offsets = np.array([event.offset for event in events], np.int64)
    is_missing = offsets >= users.columns.next_offset[slots]
    slots, offsets = slots[is_missing], offsets[is_missing]
    if len(slots) == 0:
        return slots, []
    events = [event for event, missing in zip(events, is_missing.tolist(), strict=True) if missing]
    batch = EventBatch.from_events(
        [event.event for event in events],
        slots,
        store.items,
        [event.appended_ms for event in events],
        users.layout.keeps_shown,
    )
    replay(users, batch, live)
    users.columns.next_offset[slots] = offsets + 1
    users.columns.dirty[slots] = True
    users.touch(slots)
    return slots, events
