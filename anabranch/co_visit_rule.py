"""Settings of the co-visit model."""

from __future__ import annotations

from dataclasses import dataclass

WEEK_MS = 7 * 24 * 3600 * 1000


@dataclass(frozen=True)
class CoVisitRule:
    """How item pairs are counted. Defaults were tuned on grocery baskets: nine weeks to learn, one to validate."""

    window: int = 64
    """An event is paired with at most this many of the user's earlier items, of earlier sessions too."""
    backward: float = 1.0
    """Weight of the pair (later item → earlier item). Set it below 1 if the order within a session matters."""
    gap_power: float = 0.0
    """A pair `gap` positions apart weighs gap ** -gap_power. Set it above 0 if the order matters."""
    across: float = 1.0
    """Weight of a pair that spans two sessions, relative to one within a session. What people take together says more
    about what else they take now than what they took another day."""
    half_life_ms: int = 8 * WEEK_MS
    """Age at which a pair has half its weight."""
    damping: float = 3.0
    """Visits added to an item's total before its co-visits become shares, so that one chance pair has a small share."""
    text_prior: float = 0.0
    """Pseudo-count of co-visits that every item starts with, split among the items of the most similar text. It gives
    rarely visited items neighbours; real co-visits outweigh it."""
    row_bound: int = 128
    """Neighbours per item after pruning. A row is pruned when it has twice as many."""
    user_bound: int = 1024
    """Items per user after pruning, of which it is known what the visits count and whether the user came back."""
    user_cap: float = 4.0
    """Most that one user's visits of an item count together, in visits of now. Visits beyond it count for nothing, in
    the item's popularity and in its pairs, until the earlier ones have decayed. So no user makes a neighbour alone."""
    min_users: int = 3
    """Distinct users that a pair needs before it is published, and an item before its popularity is: what fewer did is
    theirs."""
    history: int = 64
    """Newest items of a user that are remembered, to pair a visit with them and to tell a return from a repetition. The
    model learns from a log, so what a ranker keeps of a user is no bound."""
    repeat_prior: float = 5.0
    """Pseudo-count of users per item who repeat it at `UNKNOWN_REPEAT_RATE`."""
