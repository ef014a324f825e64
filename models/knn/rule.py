"""Settings of the neighbourhood models."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.co_visit_rule import WEEK_MS

REACH = 5
"""A session's items count up to this many times `distance` from the shared item, where their weight is 1/150."""


@dataclass(frozen=True)
class SessionKnnRule:
    """How similar sessions are found, and what they vote for. Defaults were tuned on sessions of a marketplace."""

    recent: int = 10
    """Newest items of a prediction point that are compared."""
    recency: float = 2.0
    """The item `n` events ago has weight exp(-n / recency). Use more if the order within a session means little."""
    half_life_ms: int = 8 * WEEK_MS
    """Age at which a session has half its weight."""
    distance: float = 3.0
    """An item `n` events from the shared one has weight exp(-n / distance). Use more if the order means little."""
    sampled: int = 500
    """Newest sessions of an item that are searched."""
    neighbours: int = 200
    """Sessions that vote."""
    history: int = 64
    """Newest items of a user by which it is known which items the current session has had."""

    @property
    def reach(self) -> int:
        """Events before and after the shared item that a session votes for."""
        return int(REACH * self.distance)


@dataclass(frozen=True)
class UserKnnRule:
    """How similar users are found, and what they vote for. Defaults were tuned on grocery baskets."""

    recent: int = 64
    """Newest items of a user that are compared."""
    recency: float = 1000.0
    """The item `n` events ago has weight exp(-n / recency), in the comparison and in the votes. Use less if what users
    choose depends on what they chose last."""
    sampled: int = 200
    """Newest visits of an item, each of another user, that are searched."""
    neighbours: int = 100
    """Users that vote."""
    votes: int = 64
    """Newest visits of a user that are votes."""
    own: float = 0.5
    """Weight of the user's own visits, in votes of all the neighbours together."""
