"""How often a test's items are among the candidates of the served path, and which sources propose them."""

from __future__ import annotations

import numpy as np

from models.experiments.benchmark import BenchmarkRanks, OfflineBenchmark, rows_of_test_users
from models.offline.candidate_coverage import CandidateCoverage, ProposedItems
from models.offline.offline_ranker import OfflineRanker
from models.offline.ranking_lists import candidates_before
from models.stages import Advance

MOST_EVENTS = 10_000
"""Of a larger test as many are drawn at random."""


def candidates_of_test(
    benchmark: OfflineBenchmark, ranker: OfflineRanker, tested: BenchmarkRanks, done: Advance = lambda n: None
) -> dict[str, CandidateCoverage]:
    """By slice, and over all events as `all`. Calls `done(n)` after every n events of the test and of its past."""
    events = len(tested.row)
    drawn = np.sort(np.random.default_rng(0).permutation(events)[:MOST_EVENTS])
    of_users, start = rows_of_test_users(benchmark)
    log, rows = benchmark.log.take(of_users), np.searchsorted(of_users, tested.row[drawn])
    item = ranker.item_ids.rows(log.item_ids)[log.item[rows]]
    parts, order = [], []
    for event, batch in candidates_before(ranker, log, start, rows, done):
        parts.append(ProposedItems.of_queries(batch.candidates, item[event]))
        order.append(event)
    proposed = ProposedItems.concatenate(parts).take(np.argsort(np.concatenate(order)))
    slices = {name: mask[drawn] for name, mask in tested.slices.items()}
    return {"all": proposed.coverage(), **proposed.coverage_by_slice(slices)}
