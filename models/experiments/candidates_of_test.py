"""The candidates of the served path on a test: which sources propose its items, and how varied the slates are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anabranch.ranking.types import Mask
from models.data.sequences import Positions
from models.experiments.benchmark import BenchmarkRanks, OfflineBenchmark, rows_of_test_users
from models.experiments.variety_of_test import SlateCategories, variety_by_placement
from models.metrics.slate_variety import SlateVariety
from models.offline.candidate_coverage import CandidateCoverage, ProposedItems
from models.offline.offline_ranker import OfflineRanker
from models.offline.ranking_lists import CandidateBatch, candidates_before
from models.stages import Advance

MOST_EVENTS = 10_000
"""Of a larger test as many are drawn at random."""


@dataclass(frozen=True)
class CandidatesOfTest:
    """What the candidates before the events of a test are like, and the slates that are made of them."""

    coverage: dict[str, CandidateCoverage]
    """By slice, and over all events as `all`."""
    variety: dict[str, SlateVariety]
    """Of the slates of each placement; empty if none is varied."""


def candidates_of_test(
    benchmark: OfflineBenchmark, ranker: OfflineRanker, tested: BenchmarkRanks, done: Advance = lambda n: None
) -> CandidatesOfTest:
    """Measure the candidates. Calls `done(n)` after every n events of the test and of its users' past."""
    item = ranker.item_ids.rows(benchmark.log.item_ids)[tested.item]
    is_varied = any(placement.is_varied for placement in ranker.policy.placements)
    events, proposed, categories = [], [], list[SlateCategories]()
    for event, batch in _batches_of_test(benchmark, ranker, tested, done):
        events.append(event)
        proposed.append(ProposedItems.of_queries(batch.candidates, item[event]))
        if is_varied:
            categories.append(SlateCategories.of_queries(ranker, batch.queries))
    return CandidatesOfTest(
        coverage=_coverage(proposed, np.concatenate(events), tested.slices),
        variety=variety_by_placement(categories, ranker.policy.placement_names),
    )


def _coverage(
    parts: Sequence[ProposedItems], event: Positions, slices: Mapping[str, Mask]
) -> dict[str, CandidateCoverage]:
    """Of what was proposed before these events of the test, whose slices have a mask [M] of its events each."""
    proposed = ProposedItems.concatenate(parts)
    return {
        "all": proposed.coverage(),
        **proposed.coverage_by_slice({name: mask[event] for name, mask in slices.items()}),
    }


def _batches_of_test(
    benchmark: OfflineBenchmark, ranker: OfflineRanker, tested: BenchmarkRanks, done: Advance
) -> Iterator[tuple[Positions, CandidateBatch]]:
    """The candidates before `MOST_EVENTS` of the test's M events, and which of these each batch is for."""
    drawn = np.sort(np.random.default_rng(0).permutation(len(tested.row))[:MOST_EVENTS])
    of_users, start = rows_of_test_users(benchmark)
    rows = np.searchsorted(of_users, tested.row[drawn])
    for event, batch in candidates_before(ranker, benchmark.log.take(of_users), start, rows, done):
        yield drawn[event], batch
