"""A batch of events as arrays, the form in which the core reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import EVENT_TYPES, Event
from anabranch.ranking.types import Positions, Rows, Slots
from anabranch.ranking.vocabulary import ItemVocabulary, stable_hash

IMPRESSION = EVENT_TYPES.index("impression")
TYPES_WITH_OTHER_ITEMS = frozenset({"impression", "dislike", "rating"})
"""Types of events whose items may be others than those of interest."""


class EventItems(NamedTuple):
    """N items of some events of a batch, in log order."""

    event: Positions
    """[N] index in the batch, ascending"""
    item: Rows
    """[N] -1: one whose id is refused"""


NO_EVENT_ITEMS = EventItems(np.empty(0, np.int64), np.empty(0, np.int32))


class BatchColumns(NamedTuple):
    """B events in log order, for compiled functions."""

    slots: Slots
    """[B] the slot of each event's user"""
    items: Rows
    """[B] -1 where the event shows interest in no item, or in one whose id is refused (`ItemIdCollision`)"""
    types: NDArray[np.uint8]
    """[B] by `EVENT_TYPES`"""
    ts: NDArray[np.int64]
    """[B] UTC ms"""
    sessions: NDArray[np.uint64]
    """[B] hash of the session id, 0 where the event names none"""
    keys: NDArray[np.uint64]
    """[B] hash of the event id"""
    shown: EventItems = NO_EVENT_ITEMS
    """what impressions showed"""
    disliked: EventItems = NO_EVENT_ITEMS
    """what users do not want to see again"""


def happened_ms(events: Sequence[Event], appended_ms: Sequence[int] | None = None) -> NDArray[np.int64]:
    """When the events [B] happened, UTC ms.

    `appended_ms` [B] is when each was appended to the log, below 0 where that is unknown: an event cannot have happened
    later, whatever its producer's clock said.
    """
    ts = [event.ts for event in events]
    if appended_ms is not None:
        ts = [
            event_ms if append_ms < 0 else min(event_ms, append_ms)
            for event_ms, append_ms in zip(ts, appended_ms, strict=True)
        ]
    return np.array(ts, np.int64)


def event_keys(events: Sequence[Event]) -> NDArray[np.uint64]:
    """Hashes of the ids of the events [B], by which duplicates are found."""
    return np.array([stable_hash(event.event_id) for event in events], np.uint64)


@dataclass(frozen=True)
class EventBatch:
    """B events in log order."""

    columns: BatchColumns
    queries: dict[int, str]
    """Text of the searches, by index in the batch."""

    def __len__(self) -> int:
        return len(self.columns.ts)

    @classmethod
    def from_events(
        cls,
        events: Sequence[Event],
        slots: Slots,
        item_ids: ItemVocabulary,
        appended_ms: Sequence[int] | None = None,
        keeps_shown: bool = True,
    ) -> EventBatch:
        """The batch of decoded events whose users have `slots` [B].

        `appended_ms`: see `happened_ms`. Without `keeps_shown` the items of impressions are left out, where user states
        have no room for them.
        """
        rare = [(index, event) for index, event in enumerate(events) if event.type in TYPES_WITH_OTHER_ITEMS]
        of_impressions = (
            (index, item_id) for index, event in rare if keeps_shown and not event.is_action for item_id in event.shown
        )
        disliked = ((index, item_id) for index, event in rare if (item_id := event.disliked_item) is not None)
        columns = BatchColumns(
            slots=slots,
            items=item_ids.mentioned([event.item_of_interest for event in events]),
            types=np.array([EVENT_TYPES.index(event.type) for event in events], np.uint8),
            ts=happened_ms(events, appended_ms),
            sessions=np.array(
                [0 if event.session_id is None else stable_hash(event.session_id) for event in events], np.uint64
            ),
            keys=event_keys(events),
            shown=_event_items(of_impressions, item_ids),
            disliked=_event_items(disliked, item_ids),
        )
        queries = {index: query for index, event in enumerate(events) if (query := event.search_query) is not None}
        return cls(columns, queries)


def _event_items(items: Iterable[tuple[int, str]], item_ids: ItemVocabulary) -> EventItems:
    """The items, each with the index of its event."""
    indices, ids = [], []
    for index, item_id in items:
        indices.append(index)
        ids.append(item_id)
    return EventItems(np.array(indices, np.int64), item_ids.mentioned(ids)) if ids else NO_EVENT_ITEMS
