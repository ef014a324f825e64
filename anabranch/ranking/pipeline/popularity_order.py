"""The order of popularity, for users of whom nothing is known."""

from __future__ import annotations

from dataclasses import replace

from anabranch.ranking.pipeline.features import POPULARITY
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.types import Vectors


class PopularityOrder:
    """Scores candidates in place of a list ranker, which learned from users with events alone."""

    def score(self, features: Vectors) -> Vectors:
        """Features [N, F] → scores [N]: the logarithm of an item's share of all events, newer ones counted more.

        So `log(factor)`, which a boost adds to a score, means the same as for a list ranker's: as if the item were
        taken `factor` times as often.
        """
        return features[:, POPULARITY].copy()  # contiguous: what reads scores is compiled for that


def by_popularity(live: ServableRelease) -> ServableRelease:
    """The release with this order in place of its own."""
    return replace(live, order=PopularityOrder())
