from __future__ import annotations

import numpy as np
import pytest

from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.vocabulary import ItemVocabulary
from models.data.event_log import EventColumns, EventLog
from models.data.event_traits import COLD_INTERACTIONS
from models.evaluation.paired_differences import OVERALL
from models.evaluation.seed_comparison import (
    MAX_HELD_OUT_SHARE,
    ComparisonPoints,
    compare_seed_models,
    draw_prediction_points,
    ranks_at_rows,
)
from models.evaluation.seed_model_ranks import prediction_points_before, seed_ranks
from models.offline.offline_ranker import OfflineRanker, rank_events
from models.seeds.seed_model import SeedModel
from models.seeds.text import TextSeedModel
from tests.support.layouts import LAYOUT
from tests.support.releases import live_release, write_release

EVENTS, USERS = 600, 20
ITEMS = [f"item {number}" for number in range(40)]
DOMAINS = ["garden" if number % 2 else "kitchen" for number in range(40)]
START = 400


@pytest.fixture(scope="module")
def log() -> EventLog:
    """An event every seven minutes; the last item comes in the window alone."""
    random = np.random.default_rng(0)
    item = random.integers(len(ITEMS) - 1, size=EVENTS)
    item[START + 50 :: 20] = len(ITEMS) - 1
    return EventLog.from_columns(
        EventColumns(
            random.integers(USERS, size=EVENTS),
            item,
            np.zeros(EVENTS, np.int64),
            np.arange(EVENTS) * 7 * 60_000,
            np.full(EVENTS, -1),
        ),
        user_ids=tuple(f"user {number}" for number in range(USERS)),
        item_ids=tuple(ITEMS),
    )


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> OfflineRanker:
    folder, item_ids = tmp_path_factory.mktemp("releases") / "r1", ItemVocabulary()
    write_release(folder, item_ids=ITEMS)
    live, policy = live_release(folder, item_ids, ITEMS), Policy(retrieval_k=20)
    return OfflineRanker(live, CoVisitRows(4), item_ids, policy, LAYOUT._replace(slate=10))


@pytest.fixture(scope="module")
def seeds(log: EventLog) -> list[SeedModel]:
    text_vectors = np.random.default_rng(1).normal(size=(len(ITEMS), 16)).astype(np.float32)
    seeds: list[SeedModel] = [
        TextSeedModel(dims=4, name="text"),
        TextSeedModel(dims=8, recency_decay=0.1, name="fleeting text"),
    ]
    for seed in seeds:
        seed.fit(log, text_vectors, lambda share: None)
    return seeds


@pytest.fixture(scope="module")
def rows(log: EventLog) -> np.ndarray:
    return np.sort(np.random.default_rng(2).choice(np.arange(START, EVENTS), 60, replace=False))


def test_prediction_points_are_drawn_in_the_window_where_the_user_has_an_earlier_event(log: EventLog) -> None:
    rows = draw_prediction_points(log, START, count=10, random_seed=0)
    assert len(rows) == 10
    assert (rows >= START).all()
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert rows.tolist() == draw_prediction_points(log, START, count=10, random_seed=0).tolist()
    first_events = np.unique(log.user, return_index=True)[1]
    assert not set(draw_prediction_points(log, 0, count=EVENTS, random_seed=0).tolist()) & set(first_events.tolist())


def test_of_few_prediction_points_most_are_left_to_the_list_ranker(log: EventLog) -> None:
    assert len(draw_prediction_points(log, START, count=10_000, random_seed=0)) == MAX_HELD_OUT_SHARE * (EVENTS - START)
    assert len(draw_prediction_points(log, EVENTS - 5, count=10_000, random_seed=0)) == 0


def test_slates_at_a_few_rows_equal_those_of_ranking_every_event(
    log: EventLog, ranker: OfflineRanker, rows: np.ndarray
) -> None:
    everything = rank_events(ranker, log, START).rank
    ranks = ranks_at_rows(ranker, log, START, rows)
    assert ranks.tolist() == everything[rows - START].tolist()
    assert (ranks > 0).any() and (ranks == 0).any()


def test_every_seed_model_is_scored_at_the_same_points_overall_and_by_slice(
    log: EventLog, ranker: OfflineRanker, seeds: list[SeedModel], rows: np.ndarray
) -> None:
    comparison = compare_seed_models(seeds, ranker, ComparisonPoints(log, START, rows, DOMAINS))
    assert list(comparison.seeds) == ["text", "fleeting text"]
    assert comparison.events[OVERALL] == comparison.shared.events == 60
    assert comparison.users[OVERALL] == len(np.unique(log.user[rows]))
    for seed in comparison.seeds.values():
        assert seed.quality.events == 60
        assert list(seed.improvement) == list(comparison.events) == list(comparison.users)
        interval = seed.improvement[OVERALL].recall_at_20
        assert interval.difference == pytest.approx(comparison.shared.recall[20] - seed.quality.recall[20])
        assert interval.low <= interval.difference <= interval.high
    assert comparison.events["domain:garden"] + comparison.events["domain:kitchen"] == 60


def test_leaving_out_users_without_a_prediction_point_changes_no_rank(
    log: EventLog, ranker: OfflineRanker, seeds: list[SeedModel], rows: np.ndarray
) -> None:
    """Only the events of the users who are measured are gone through; the figures are those of the whole log."""
    few = rows[log.user[rows] < USERS // 2]
    comparison = compare_seed_models(seeds[:1], ranker, ComparisonPoints(log, START, few, DOMAINS))
    seen = np.bincount(log.item[:START], minlength=len(ITEMS))
    assert comparison.events["cold_items"] == np.count_nonzero(seen[log.item[few]] <= COLD_INTERACTIONS)
    ranks = seed_ranks(seeds[0], prediction_points_before(log, few, ranker.rules), log.item[few], ranker.layout.slate)
    assert comparison.seeds["text"].quality.recall[10] == pytest.approx(np.mean((ranks > 0) & (ranks <= 10)))
    assert comparison.shared.recall[10] == pytest.approx(np.mean(rank_events(ranker, log, START).rank[few - START] > 0))
