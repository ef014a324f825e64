"""When a session ends in an event log: the ranker's rule, for session numbers."""

from __future__ import annotations

from typing import Any

from anabranch.ranking.user_state import session as ranker_session
from models.data.event_log import NONE


def session_ends(previous: Any, session: Any, gap_ms: Any) -> Any:
    """Whether a user's event begins a new session, by `anabranch.ranking.user_state.session.session_ends`.

    `previous` and `session` are the session numbers of the user's previous event and of this one (NONE: no session id),
    and `gap_ms` the time between them. Takes numbers, or arrays of equal shape.
    """
    return ranker_session.session_ends(previous, session, gap_ms, no_session=NONE)
