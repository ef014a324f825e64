"""When a session ends: one rule for the ranker's user states and for event logs."""

from __future__ import annotations

from typing import Any

from anabranch.ranking.jit import compiled

SESSION_GAP_MS = 30 * 60 * 1000
"""Events without a `session_id` belong together until a user pauses for half an hour, the web's usual bound."""


def session_ends(previous: Any, session: Any, gap_ms: Any, no_session: int) -> Any:
    """Whether a user's event begins a new session: it names another one, or names none after a long pause.

    `previous` and `session` identify the sessions of the user's previous event and of this one; `no_session` is the
    identifier of an event without a session id. `gap_ms` is the time between the two events. Takes numbers, or arrays
    of equal shape.
    """
    return (session != previous) | ((session == no_session) & (gap_ms > SESSION_GAP_MS))


session_ends_compiled = compiled(session_ends)
"""`session_ends`, to be called by compiled loops."""
