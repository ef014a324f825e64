"""Why an event of a request is refused: the decoder's reason, the field, and what to do."""

from __future__ import annotations

import re

from anabranch.http.messages.collector import RefusedEvent
from anabranch.messages import EVENT_TYPES

REMEDIES = {
    "event_id": "give each event an id of its own, of 1 to 512 characters, none of them a control character",
    "user_id": "give the user's id, of 1 to 512 characters, none of them a control character",
    "type": f"give one of {', '.join(EVENT_TYPES)}",
    "ts": "give the time of the event as a whole number of milliseconds since 1970",
    "item_id": "give the id of the item, of 1 to 512 characters; leave it out of an impression",
    "query": "give the text of the search, of 1 to 4,096 characters",
    "session_id": "give an id of 1 to 512 characters, none of them a control character, or leave it out",
    "domain": "give a name of 1 to 512 characters, none of them a control character, or leave it out",
    "context": "give an object of at most 64 texts, each of at most 4,096 characters, or leave it out",
    "shown": "give an impression the ids of 1 to 200 items, none of them with a control character",
    "rating": "give a rating as a number from -1, the worst, to 1, the best",
    "quantity": "give a quantity as a number from 0 to 1,000,000,000, or leave it out",
    "price": "give the price of one unit as a number of at most 1,000,000,000,000, or leave it out",
    "order_id": "give an id of 1 to 512 characters, none of them a control character, or leave it out",
    "ranking_id": "give an id of 1 to 512 characters, none of them a control character, or leave it out",
}
"""For every field of an event."""
EVENT_REMEDY = "give a JSON object with event_id, user_id, type, ts, and item_id, query or shown"
QUOTED = re.compile(r"`(?:\$\.)?(\w+)[^`]*`")
"""A name in a reason, or the path of a field: msgspec writes `$.context[...]` for what is in a field."""


def refused(index: int, reason: str) -> RefusedEvent:
    """The answer for an event that the decoder rejects with this reason."""
    named = [name for name in QUOTED.findall(reason) if name in REMEDIES]
    field = named[-1] if named else None
    return RefusedEvent(
        index=index, field=field, reason=reason, remedy=EVENT_REMEDY if field is None else REMEDIES[field]
    )


def too_large(index: int, event_bytes: int) -> RefusedEvent:
    """The answer for an event of more bytes than this."""
    return RefusedEvent(
        index=index,
        field=None,
        reason=f"the event has more than {event_bytes} bytes",
        remedy="shorten its context, or send less of it",
    )
