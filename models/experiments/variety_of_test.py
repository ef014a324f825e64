"""How varied the slates of each placement are on a test, and what that costs against the first one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from anabranch.ranking.item_classes import Classes
from anabranch.ranking.pipeline.slates import make_slates
from anabranch.ranking.policy import Policy
from anabranch.ranking.types import Hashes, Rows
from anabranch.ranking.user_state.snapshot import UserSnapshots
from models.evaluation.summaries import ImprovementByCutoff, improvement_by_cutoff
from models.experiments.benchmark import BenchmarkRanks
from models.metrics.slate_variety import SlateVariety
from models.offline.offline_ranker import OfflineRanker


class SlateCategories(NamedTuple):
    """Categories of items; `NO_NAME`: no item, or one without a category."""

    slates: Hashes
    """[n, P, slate] of n slates for each of P placements"""
    histories: Hashes
    """[n, H] of the users' newest items"""

    @classmethod
    def of_queries(cls, ranker: OfflineRanker, queries: UserSnapshots) -> SlateCategories:
        """Of the slates that are made for n queries."""
        slates = make_slates(
            ranker.live, ranker.neighbours, queries, ranker.policy, ranker.layout, lap=lambda stage: None
        )
        return cls(_categories(ranker, slates.items), _categories(ranker, queries.recent))


def variety_by_placement(parts: Sequence[SlateCategories], names: Sequence[str]) -> dict[str, SlateVariety]:
    """The variety of the slates of all parts, by the names of the P placements; empty without parts."""
    if not parts:
        return {}
    slates = np.concatenate([part.slates for part in parts])
    histories = np.concatenate([part.histories for part in parts])
    return {name: SlateVariety.of_slates(slates[:, number], histories) for number, name in enumerate(names)}


def cost_of_variety(policy: Policy, tested: BenchmarkRanks) -> dict[str, ImprovementByCutoff]:
    """The improvement over the first placement on all events, of each varied one that shows the same items."""

    def classes(number: int) -> Classes:
        return policy.shows(policy.placements[number])

    return {
        placement.name: improvement_by_cutoff(tested.ranks[:, number], tested.ranks[:, 0], tested.user)
        for number, placement in enumerate(policy.placements)
        if number and placement.is_varied and np.array_equal(classes(number), classes(0))
    }


def _categories(ranker: OfflineRanker, rows: Rows) -> Hashes:
    """Of items, by row; -1: none, and so no category."""
    categories = np.append(ranker.live.index.columns.categories, np.uint64(0))
    return categories[np.where(rows < len(categories) - 1, rows, -1)]
