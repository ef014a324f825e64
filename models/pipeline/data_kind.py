"""The kind of a shop's data, found from its events: what the order of a user's events means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import EVENT_TYPES
from models.data.event_log import NONE, EventLog
from models.data.sessions import begins_session
from models.pipeline.presets import Kind

MIN_EVENTS = 200
"""With fewer events that follow another of their user, the shares below are not reliable."""
NO_REPEATS = 0.02
"""Below this share of repeats, an item counts as taken once: a few repeats are double clicks."""
RETURNS = 0.05
"""From this share of repeats within a session on, users return to items that they have just seen."""
EVENTS_PER_SESSION = 1.5
"""From this mean on, sessions have an order that can be learned; below it, most have a single event."""
SESSIONS_PER_USER = 3.0
"""From this mean on, users had the chance to repeat items. In its first week a grocer's customers repeat hardly any."""
MOSTLY_PURCHASES = 0.9
"""From this share of purchases on, a session is a basket: a set, written down at the till."""
LONG_HISTORY = 50.0
"""From this mean of events per user on, histories are long. Histories of reviews have some 10, of watched films 100."""


@dataclass(frozen=True)
class KindDecision:
    """A kind, and the figures that decided."""

    kind: Kind
    reason: str
    figures: dict[str, float]

    @classmethod
    def named(cls, kind: Kind) -> KindDecision:
        """A kind that the user named."""
        return cls(kind, "named by the user", {})

    def describe(self) -> dict[str, Any]:
        """What a release's manifest records."""
        return {"name": self.kind, "reason": self.reason, **self.figures}


def find_kind(log: EventLog) -> KindDecision:
    """The kind of a log's events about items.

    - `histories`: users come again and again, and no item occurs twice for a user.
    - `long_histories`: the same, of many events per user, perhaps all in a few visits.
    - `sessions`: users look at several items in a row and return to those that they have just seen, or every session
      has a user id of its own.
    - `baskets`: everything else, and what cannot be told. Of the four it is the safest error: it excludes no item for
      good.
    """
    figures = _figures(log.take(log.item != NONE))
    if figures["later_events"] < MIN_EVENTS:
        few = f"only {figures['later_events']:,.0f} events follow another of their user, too few to tell"
        return KindDecision("baskets", few, figures)
    repeats = f"{figures['repeats']:.1%} of the events are about an item that the user had before"
    in_session = f"{figures['session_repeats']:.1%} about one of the same session"
    sessions = (
        f"{figures['events_per_session']:.1f} events a session, {figures['purchases']:.0%} of them purchases, "
        f"{figures['sessions_per_user']:.1f} sessions and {figures['events_per_user']:.0f} events a user"
    )
    reason = f"{repeats}, {in_session}; {sessions}"
    return KindDecision(_decide(figures), reason, figures)


def _decide(figures: dict[str, float]) -> Kind:
    at_the_till, returned = figures["purchases"] >= MOSTLY_PURCHASES, figures["sessions_per_user"] >= SESSIONS_PER_USER
    ordered = figures["events_per_session"] >= EVENTS_PER_SESSION and not at_the_till
    is_long = figures["events_per_user"] >= LONG_HISTORY
    if figures["repeats"] < NO_REPEATS and (returned or (is_long and not at_the_till)):
        return "long_histories" if is_long else "histories"
    one_session_each = figures["sessions_per_user"] < EVENTS_PER_SESSION
    return "sessions" if ordered and (figures["session_repeats"] >= RETURNS or one_session_each) else "baskets"


def _figures(log: EventLog) -> dict[str, float]:
    """Shares of the events about items that follow another of their user, and means over sessions and users."""
    by_user = log.take(np.lexsort((np.arange(len(log)), log.user)))
    session = np.cumsum(begins_session(by_user), dtype=np.int64)
    users, sessions = len(np.unique(by_user.user)), int(session.max(initial=0))
    later = max(len(log) - users, 0)
    repeats = len(log) - _distinct(by_user.user, by_user.item)
    return {
        "later_events": float(later),
        "repeats": repeats / max(later, 1),
        "session_repeats": (len(log) - _distinct(session, by_user.item)) / max(later, 1),
        "events_per_user": len(log) / max(users, 1),
        "events_per_session": len(log) / max(sessions, 1),
        "sessions_per_user": sessions / max(users, 1),
        "purchases": float(np.mean(log.type == EVENT_TYPES.index("purchase"))) if len(log) else 0.0,
    }


def _distinct(first: NDArray[np.integer], second: NDArray[np.integer]) -> int:
    """How many different pairs [N], [N] there are."""
    return len(np.unique(first.astype(np.int64) * (int(second.max(initial=0)) + 1) + second))
