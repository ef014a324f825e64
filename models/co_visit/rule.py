"""Settings of the co-visit model."""

from __future__ import annotations

from dataclasses import dataclass

WEEK_MS = 7 * 24 * 3600 * 1000


@dataclass(frozen=True)
class CoVisitRule:
    """How item pairs are counted. Defaults were tuned on grocery baskets: ten weeks to learn, one week to validate."""

    window: int = 20
    """An event is paired with at most this many earlier items of its session."""
    across_window: int = 10
    """The same for items of the user's earlier sessions."""
    across: float = 0.3
    """Weight of a pair that spans two sessions."""
    backward: float = 1.0
    """Weight of the pair (later item → earlier item). Set it below 1 if the order within a session matters."""
    gap_power: float = 0.0
    """A pair `gap` positions apart weighs gap ** -gap_power. Set it above 0 if the order matters."""
    repeats: bool = False
    """Whether a repeated item counts as its own neighbour."""
    half_life_ms: int = 8 * WEEK_MS
    """Age at which a pair has half its weight."""
    damping: float = 3.0
    """Visits added to an item's total before its co-visits become shares, so that one chance pair has a small share."""
    text_prior: float = 0.0
    """Pseudo-count of co-visits that every item starts with, split among the items of the most similar text. It gives
    rarely visited items neighbours; real co-visits outweigh it."""
    row_bound: int = 128
    """Neighbours per item after pruning. A row is pruned when it has twice as many."""
    recent: int = 12
    """The slate is made from the neighbours of this many newest items of the user."""
    earlier_session: float = 0.5
    """Weight of those newest items that belong to an earlier session."""
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
