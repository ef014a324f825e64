"""How varied the slates of each placement are on a test, and what that costs against the first one."""

from __future__ import annotations

import numpy as np

from anabranch.ranking.item_classes import Classes
from anabranch.ranking.pipeline.slates import make_slates
from anabranch.ranking.policy import Policy
from anabranch.ranking.types import Hashes, Rows
from models.evaluation.summaries import ImprovementByCutoff, improvement_by_cutoff
from models.experiments.benchmark import BenchmarkRanks, OfflineBenchmark
from models.experiments.candidates_of_test import batches_of_test
from models.metrics.slate_variety import SlateVariety
from models.offline.offline_ranker import OfflineRanker
from models.stages import Advance


def variety_of_test(
    benchmark: OfflineBenchmark, ranker: OfflineRanker, tested: BenchmarkRanks, done: Advance = lambda n: None
) -> dict[str, SlateVariety]:
    """Of each placement, if one is varied. Calls `done(n)` after every n events of the test and of its past."""
    if not any(placement.is_varied for placement in ranker.policy.placements):
        return {}
    slates, histories = list[Hashes](), list[Hashes]()
    for _, batch in batches_of_test(benchmark, ranker, tested, done):
        policy, layout, queries = ranker.policy, ranker.layout, batch.queries
        ranked = make_slates(ranker.live, ranker.neighbours, queries, policy, layout, lambda stage: None)
        slates.append(_categories(ranker, ranked.items))
        histories.append(_categories(ranker, queries.recent))
    of_placements, history = np.concatenate(slates), np.concatenate(histories)
    return {
        name: SlateVariety.of_slates(of_placements[:, number], history)
        for number, name in enumerate(ranker.policy.placement_names)
    }


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
