"""A world in which users act only on what they are shown, with slates that have explored places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import EXPLORED_POOL
from anabranch.ranking.pipeline.exploration import candidates_needed, explore
from models.evaluation.off_policy import ExposedEvents
from models.metrics.ranking import Ranks, discounted_gains

SLATE = 20
ITEMS = 100

Array = NDArray[Any]


@dataclass(frozen=True)
class ShownItems:
    """The incumbent ranks the items 0, 1, 2, … for every user. Of those, a user likes some more than others."""

    users: int
    slates: int
    """Slates that each user is shown."""
    places: int = 2
    liking: float = 0.01
    """Probability that a user acts on a shown item of the kind that the candidate ranks first; see `even`."""
    even: bool = False
    """Whether users like all items alike; else they like those that the candidate ranks first twice as much."""

    def feedback(self, random_seed: int) -> ExposedEvents:
        """What the replay of a gate's window and the logged propensities would be: the events of acts."""
        random = np.random.default_rng(random_seed)
        n = self.users * self.slates
        user = np.repeat(np.arange(self.users), self.slates).astype(np.int32)
        drawn = explore(random.integers(2**63, size=n).astype(np.uint64), np.full(n, ITEMS), SLATE, self.places)
        activity = random.gamma(4, 1 / 4, self.users)[user]  # how much a user does at all
        chances = np.cumsum(self.acts[drawn.candidate] * activity[:, None], axis=1)  # [n, SLATE]
        place = (random.random(n)[:, None] > chances).sum(axis=1)
        acted = np.flatnonzero(place < SLATE)
        item = drawn.candidate[acted, place[acted]]
        is_explored = place[acted] >= SLATE - drawn.explored[acted]
        return ExposedEvents(
            user=user[acted],
            propensity=np.where(is_explored, 1 / EXPLORED_POOL, 1.0),
            release_candidate=rank_of(self.candidate_order)[item],
            incumbent=rank_of(np.arange(ITEMS))[item],
        )

    @property
    def candidate_order(self) -> Array:
        """The candidate ranks what the incumbent shows rarely first: every other item from its explored places on."""
        return np.argsort(~self.is_liked, kind="stable")

    @property
    def is_liked(self) -> Array:
        item = np.arange(ITEMS)
        return (item >= SLATE - self.places) & (item % 2 == 0)

    @property
    def acts(self) -> Array:
        """Probability [ITEMS] that a user acts on an item that is shown."""
        return np.where(self.is_liked | self.even, self.liking, self.liking / 2)

    @property
    def true_improvement(self) -> float:
        """Candidate minus incumbent in NDCG@20, over the acts if everything that can be shown were shown."""
        weight = np.where(np.arange(ITEMS) < candidates_needed(SLATE, self.places), self.acts, 0)
        ours, theirs = (discounted_gains(rank_of(order), SLATE) for order in (self.candidate_order, np.arange(ITEMS)))
        return float(np.average(ours - theirs, weights=weight))


def rank_of(order: Array) -> Ranks:
    """Rank of each item on the slate of its ranker, 0 if it is not on it."""
    rank = np.zeros(ITEMS, np.int32)
    rank[order[:SLATE]] = np.arange(1, SLATE + 1)
    return rank
