"""When a session ends: the ranker's rule (`anabranch.ranking.user_state.update`), for event logs."""

from __future__ import annotations

from typing import Any

from anabranch.ranking.user_state.update import SESSION_GAP_MS
from models.data.event_log import NONE


def session_ends(previous: Any, session: Any, gap_ms: Any) -> Any:
    """Whether a user's event begins a new session: it names another one, or names none after a long pause.

    `previous` and `session` are the session numbers of the user's previous event and of this one (NONE: no session id),
    and `gap_ms` the time between them. Takes numbers, or arrays of equal shape.
    """
    return (session != previous) | ((session == NONE) & (gap_ms > SESSION_GAP_MS))
