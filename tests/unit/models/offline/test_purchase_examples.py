from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anabranch.messages import EVENT_TYPES
from anabranch.ranking.pipeline import user_update
from anabranch.ranking.pipeline.features import build_features
from anabranch.ranking.pipeline.slates import make_slates
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.candidates import propose
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from models.data.event_batches import event_batches
from models.data.event_log import EventColumns, EventLog
from models.data.purchase_examples import NoPurchaseHead, PurchaseExampleConfig, PurchaseExamples
from models.offline.offline_ranker import OfflineRanker
from models.offline.purchase_examples import (
    DAY_MS,
    bought_within,
    purchase_examples,
)
from tests.support.layouts import LAYOUT
from tests.support.releases import live_release, write_release

VIEW, PURCHASE, SEARCH = (EVENT_TYPES.index(name) for name in ("view", "purchase", "search"))
ITEMS = tuple(f"item {number}" for number in range(30))
EVERY = PurchaseExampleConfig(prediction_points=1_000_000)
HOUR_MS = DAY_MS // 24


def log_of(*events: tuple[int, int, int, int], users: int = 9) -> EventLog:
    """Events of (user, item, type, hour)."""
    user, item, type, hour = np.array(events).T
    return EventLog.from_columns(
        EventColumns(user, item, type, hour * HOUR_MS, np.full(len(events), -1)),
        user_ids=tuple(f"user {number}" for number in range(users)),
        item_ids=ITEMS,
    )


@pytest.fixture(scope="module")
def log() -> EventLog:
    """400 events of 9 users, one an hour: two views, then a purchase."""
    random = np.random.default_rng(0)
    return log_of(*((random.integers(9), random.integers(30), (VIEW, VIEW, PURCHASE)[n % 3], n) for n in range(400)))


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> OfflineRanker:
    folder = tmp_path_factory.mktemp("releases") / "r1"
    write_release(folder, item_ids=ITEMS)
    item_ids = ItemVocabulary()
    item_ids.rows(["of another shop", *reversed(ITEMS)])  # rows are not the log's numbers
    return OfflineRanker(live_release(folder, item_ids, ITEMS), CoVisitRows(), item_ids, Policy(), LAYOUT)


def no_lap(stage: str) -> None:
    """Measures no stage."""


def made(
    ranker: OfflineRanker, log: EventLog, config: PurchaseExampleConfig = EVERY, start: int = 100
) -> PurchaseExamples:
    before, after = log.split(int(log.ts[start]))
    return purchase_examples(ranker, before, after, config, random_seed=0)


def test_a_purchase_counts_after_the_prediction_point_to_the_end_of_the_horizon() -> None:
    log = log_of(
        (0, 1, PURCHASE, 0),
        (0, 2, VIEW, 1),  # the prediction point
        (0, 3, PURCHASE, 2),
        (0, 4, VIEW, 3),
        (1, 5, PURCHASE, 3),
        (0, 6, PURCHASE, 25),
        (0, 7, PURCHASE, 26),
    )
    bought = bought_within(log, np.full(30, 1), np.arange(30), horizon_ms=DAY_MS)
    assert np.flatnonzero(bought).tolist() == [3, 6], "not what came before, was viewed, is another's, or came later"


def test_a_purchase_later_than_the_horizon_does_not_hide_one_within() -> None:
    log = log_of((0, 1, PURCHASE, 0), (0, 2, VIEW, 1), (0, 1, PURCHASE, 2), (0, 1, PURCHASE, 90))
    moments = np.array([0, 1, 2])
    assert bought_within(log, moments, np.full(3, 1), horizon_ms=DAY_MS).tolist() == [True, True, False]


def test_the_label_is_what_a_walk_through_the_log_finds(ranker: OfflineRanker, log: EventLog) -> None:
    """The definition, applied to one user, item and prediction point at a time."""
    horizon = 2 * DAY_MS
    moment, item = (grid.ravel() for grid in np.meshgrid(np.arange(0, 400, 7), np.arange(30)))

    def walked(at: int, item: int) -> bool:
        return any(
            log.user[n] == log.user[at]
            and log.item[n] == item
            and log.type[n] == PURCHASE
            and log.ts[n] <= log.ts[at] + horizon
            for n in range(at + 1, len(log))
        )

    expected = [walked(*one) for one in zip(moment.tolist(), item.tolist(), strict=True)]
    assert 0 < sum(expected) < len(expected)
    assert bought_within(log, moment, item, horizon).tolist() == expected


def test_examples_are_the_candidates_of_the_serving_core_with_their_labels(
    ranker: OfflineRanker, log: EventLog
) -> None:
    """One event after the other through the core, as in a ranker."""
    config = replace(EVERY, horizon_days=3.0)
    examples = made(ranker, log, config)
    states = UserStates(LAYOUT, ranker.live.index.dims, ranker.live.manifest.state_dims)
    number = {int(row): item for item, row in enumerate(ranker.item_ids.rows(ITEMS))}
    features, bought, on_slate = [], [], []
    for at, batch in enumerate(event_batches(log, states, ranker.item_ids, 1)):
        snapshots = user_update.update_user_states(ranker.live, states, batch).snapshots
        if at < 100 or log.ts[at] > log.ts[-1] - 3 * DAY_MS:
            continue
        candidates = propose(snapshots, ranker.live.index, ranker.neighbours, ranker.policy, states.layout.half_life_s)
        classes = ranker.policy.first_classes
        features.append(build_features(snapshots, candidates, ranker.live.index, ranker.neighbours, classes))
        items = np.array([number[row] for row in candidates.item.tolist()])
        bought.append(bought_within(log, np.full(len(items), at), items, 3 * DAY_MS))
        slate = make_slates(ranker.live, ranker.neighbours, snapshots, ranker.policy, states.layout, no_lap)
        on_slate.append(np.isin(candidates.item, slate.items))
    assert np.array_equal(examples.on_slate, np.concatenate(on_slate))
    assert 0 < examples.on_slate.sum() < len(examples)
    assert np.array_equal(examples.bought, np.concatenate(bought))
    np.testing.assert_allclose(examples.features, np.concatenate(features), atol=1e-5)
    assert (
        examples.prediction_point.tolist() == np.repeat(np.arange(len(bought)), [len(one) for one in bought]).tolist()
    )
    assert examples.bought.any()


def test_prediction_points_whose_horizon_ends_after_the_log_are_left_out(ranker: OfflineRanker, log: EventLog) -> None:
    """Of 300 events, an hour apart, those of the last three days: their labels are not complete."""
    examples = made(ranker, log, replace(EVERY, horizon_days=3.0))
    assert examples.prediction_point[-1] + 1 == 300 - 72


def test_the_newest_prediction_points_with_complete_labels_are_drawn(ranker: OfflineRanker, log: EventLog) -> None:
    config = replace(EVERY, horizon_days=3.0)
    every, newest = made(ranker, log, config), made(ranker, log, replace(config, events=50))
    rows = np.flatnonzero(every.prediction_point >= 300 - 72 - 50)
    assert newest.prediction_point[-1] + 1 == 50
    assert np.array_equal(newest.bought, every.bought[rows])
    np.testing.assert_allclose(newest.features, every.features[rows], atol=1e-5)


def test_about_the_configured_number_of_prediction_points_is_drawn(ranker: OfflineRanker, log: EventLog) -> None:
    config = replace(EVERY, horizon_days=3.0, prediction_points=60)
    assert 30 < made(ranker, log, config).prediction_point[-1] + 1 < 90


def test_a_split_cuts_between_prediction_points() -> None:
    moment = np.repeat(np.arange(10), np.arange(10) + 1)
    examples = PurchaseExamples(
        np.arange(55, dtype=np.float32)[:, None], np.zeros(55, np.bool_), moment, np.zeros(55, np.bool_)
    )
    parts = examples.split(0.6, 0.8)
    assert [part.prediction_point.tolist() for part in parts[1:]] == [[0] * 7 + [1] * 8, [0] * 9 + [1] * 10]
    assert np.concatenate([part.features for part in parts]).ravel().tolist() == list(range(55))


def test_a_log_without_purchases_makes_no_examples(ranker: OfflineRanker, log: EventLog) -> None:
    with pytest.raises(NoPurchaseHead, match="no event is a purchase"):
        made(ranker, replace(log, type=np.full(len(log), VIEW, np.uint8)))


def test_a_log_shorter_than_the_horizon_says_what_it_lacks(ranker: OfflineRanker, log: EventLog) -> None:
    with pytest.raises(NoPurchaseHead, match="shorter than the 30 days within which a purchase counts"):
        made(ranker, log, replace(EVERY, horizon_days=30))
