"""The events of a log as messages."""

from __future__ import annotations

import numpy as np

from anabranch.messages import EVENT_TYPES, Event
from models.data.event_log import NONE, EventLog


def events_of_log(log: EventLog) -> list[Event]:
    """Those that have an item or a query; event ids are the row numbers."""
    return [_event(log, int(row)) for row in np.flatnonzero((log.item != NONE) | (log.query != NONE))]


def _event(log: EventLog, row: int) -> Event:
    item, session, query = int(log.item[row]), int(log.session[row]), int(log.query[row])
    return Event(
        event_id=str(row),
        user_id=log.user_ids[log.user[row]],
        type=EVENT_TYPES[log.type[row]],
        item_id=None if item == NONE else log.item_ids[item],
        query=None if query == NONE else log.queries[query],
        ts=int(log.ts[row]),
        session_id=None if session == NONE else str(session),
    )
