"""How often a test's items are among the candidates of the served path, and which sources propose them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.data.sequences import Positions
from models.experiments.benchmark import BenchmarkRanks, OfflineBenchmark, rows_of_test_users
from models.offline.candidate_coverage import CandidateCoverage, ProposedItems
from models.offline.offline_ranker import OfflineRanker
from models.offline.ranking_lists import CandidateBatch, candidates_before
from models.stages import Advance

MOST_EVENTS = 10_000
"""Of a larger test as many are drawn at random."""


def candidates_of_test(
    benchmark: OfflineBenchmark, ranker: OfflineRanker, tested: BenchmarkRanks, done: Advance = lambda n: None
) -> dict[str, CandidateCoverage]:
    """By slice, and over all events as `all`. Calls `done(n)` after every n events of the test and of its past."""
    item = ranker.item_ids.rows(benchmark.log.item_ids)[tested.item]
    parts, events = [], []
    for event, batch in batches_of_test(benchmark, ranker, tested, done):
        parts.append(ProposedItems.of_queries(batch.candidates, item[event]))
        events.append(event)
    proposed, drawn = ProposedItems.concatenate(parts), np.concatenate(events)
    slices = {name: mask[drawn] for name, mask in tested.slices.items()}
    return {"all": proposed.coverage(), **proposed.coverage_by_slice(slices)}


def batches_of_test(
    benchmark: OfflineBenchmark, ranker: OfflineRanker, tested: BenchmarkRanks, done: Advance
) -> Iterator[tuple[Positions, CandidateBatch]]:
    """The candidates before `MOST_EVENTS` of the test's M events, and which of these each batch is for."""
    drawn = np.sort(np.random.default_rng(0).permutation(len(tested.row))[:MOST_EVENTS])
    of_users, start = rows_of_test_users(benchmark)
    rows = np.searchsorted(of_users, tested.row[drawn])
    for event, batch in candidates_before(ranker, benchmark.log.take(of_users), start, rows, done):
        yield drawn[event], batch
