"""An event log in the form that the serving core reads: batches of columns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from anabranch.ranking.event_batch import BatchColumns, EventBatch
from anabranch.ranking.types import Rows, Slots
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from models.data.event_log import NONE, EventLog
from models.data.sequences import Positions, Sequences

NO_CUTS: Positions = np.empty(0, np.int64)
REPLAY_BATCH = 4096
"""Events in one call when events only update user states."""


def event_batches(
    log: EventLog,
    states: UserStates,
    item_ids: ItemVocabulary,
    size: int,
    first_key: int = 1,
    cuts: Positions = NO_CUTS,
) -> Iterator[EventBatch]:
    """The log in batches of up to `size` events, none of which goes beyond a row in `cuts`.

    The key of an event is its row plus `first_key`.
    """
    slots = states.slots(log.user_ids)[log.user]
    rows = np.append(item_ids.rows(log.item_ids), np.int32(-1))[log.item]
    bounds = np.unique(np.concatenate([np.arange(0, len(log), size), cuts, [len(log)]]))
    for start, stop in pairwise(bounds.tolist()):
        part = slice(start, stop)
        query = log.query[part]
        queries = {index: log.queries[query[index]] for index in np.flatnonzero(query != NONE).tolist()}
        yield EventBatch(batch_columns(log, part, slots, rows, first_key), queries)


def batch_columns(log: EventLog | Sequences, part: slice, slots: Slots, rows: Rows, first_key: int = 1) -> BatchColumns:
    """A part of the log as columns, of users in `slots` [N] and items with `rows` [N]."""
    start, stop, _ = part.indices(len(log))
    return BatchColumns(
        slots=slots[part],
        items=rows[part],
        types=log.type[part],
        ts=log.ts[part],
        sessions=(log.session[part] + 1).astype(np.uint64),
        keys=np.arange(first_key + start, first_key + stop, dtype=np.uint64),
    )


def move_last_events_to(log: EventLog, start: int) -> tuple[Positions, int]:
    """All rows, with each user's last event before `start` moved to directly before `start`; and how many were moved.

    The order of one user's events does not change, so user states do not either. Ranking from the moved events on then
    gives each of these users a slate, without ranking the rest of the past.
    """
    newest_first = log.user[:start][::-1]
    last = np.sort(start - 1 - np.unique(newest_first, return_index=True)[1])
    older = np.setdiff1d(np.arange(start), last, assume_unique=True)
    return np.concatenate([older, last, np.arange(start, len(log))]).astype(np.int64), len(last)
