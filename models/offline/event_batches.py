"""An event log in the form that the serving core reads: batches of columns."""

from __future__ import annotations

import numpy as np

from anabranch.ranking.event_batch import BatchColumns, EventBatch
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from models.data.event_log import EventLog
from models.data.sequences import Positions


def event_batches(
    log: EventLog, states: UserStates, item_ids: ItemVocabulary, size: int, first_key: int = 1
) -> list[EventBatch]:
    """The log in batches of `size` events. The key of an event is its row plus `first_key`."""
    slots = states.slots(log.user_ids)[log.user]
    rows = np.append(item_ids.rows(log.item_ids), np.int32(-1))[log.item]
    keys = np.arange(first_key, first_key + len(log), dtype=np.uint64)
    sessions = (log.session + 1).astype(np.uint64)
    return [
        EventBatch(
            BatchColumns(
                slots=slots[part],
                items=rows[part],
                types=log.type[part],
                ts=log.ts[part],
                sessions=sessions[part],
                keys=keys[part],
            ),
            queries={},
        )
        for part in (slice(start, start + size) for start in range(0, len(log), size))
    ]


def move_last_events_to(log: EventLog, start: int) -> tuple[Positions, int]:
    """All rows, with each user's last event before `start` moved to directly before `start`; and how many were moved.

    The order of one user's events does not change, so user states do not either. Ranking from the moved events on then
    gives each of these users a slate, without ranking the rest of the past.
    """
    newest_first = log.user[:start][::-1]
    last = np.sort(start - 1 - np.unique(newest_first, return_index=True)[1])
    older = np.setdiff1d(np.arange(start), last, assume_unique=True)
    return np.concatenate([older, last, np.arange(start, len(log))]).astype(np.int64), len(last)
