"""Session kNN and user kNN learned event by event, on examples worked out by hand and against the seed model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.data.event_log import NONE, EventColumns, EventLog
from models.data.history import visits
from models.data.sequences import Contexts
from models.knn.rule import SessionKnnRule, UserKnnRule
from models.knn.session_knn import SessionKnn
from models.knn.user_knn import UserKnn
from models.knn.visit_log import VisitLog
from models.seeds.session_knn import SessionKnnSeedModel

ANN, BOB, CAT, DAN = range(4)
BREAD, MILK, SOUP, BEER, TEA = range(5)
HOUR_MS = 3_600_000
ITEMS, SESSIONS = 12, 60


def learn(model: SessionKnn | UserKnn, user: int, *items: int, session: int = 0, ts: int = 0) -> None:
    for item in items:
        model.learn(user, item, ts, session)


def test_a_similar_session_votes_for_the_items_near_the_shared_one() -> None:
    """Votes: bread 1 (the shared item), milk exp(-1/3), soup exp(-2/3); tea is in no session with bread."""
    model = SessionKnn()
    learn(model, BOB, BREAD, MILK, SOUP)
    learn(model, CAT, TEA, BEER)
    learn(model, ANN, BREAD)
    assert model.scored(ANN).top(5) == [BREAD, MILK, SOUP]
    assert model.scored(ANN).top(5, exclude={BREAD}) == [MILK, SOUP]
    assert model.scored(ANN).top(1, exclude={BREAD}) == [MILK]


def test_neither_the_own_session_nor_one_of_a_single_event_votes() -> None:
    model = SessionKnn()
    learn(model, BOB, BREAD)
    learn(model, ANN, SOUP, BREAD)
    assert model.scored(ANN).top(5) == []


def test_the_own_earlier_session_votes_like_any() -> None:
    model = SessionKnn()
    learn(model, ANN, BREAD, MILK, session=1)
    learn(model, ANN, BREAD, session=2)
    assert model.scored(ANN).top(5) == [BREAD, MILK]


def test_a_rare_shared_item_counts_more_than_a_common_one() -> None:
    """Four sessions have bread and one has soup, so soup's idf is higher, although bread is the newer item."""
    model = SessionKnn(SessionKnnRule(recency=100))
    for user in (BOB, CAT, DAN, 4):
        learn(model, user, BREAD, MILK)
    learn(model, 5, SOUP, BEER)
    learn(model, ANN, SOUP, BREAD)
    assert model.scored(ANN).top(5, exclude={BREAD, SOUP}) == [MILK, BEER], "four sessions outvote one"
    model = SessionKnn(SessionKnnRule(recency=100, neighbours=1))
    for user in (BOB, CAT, DAN, 4):
        learn(model, user, BREAD, MILK)
    learn(model, 5, SOUP, BEER)
    learn(model, ANN, SOUP, BREAD)
    assert model.scored(ANN).top(5, exclude={BREAD, SOUP}) == [BEER], "but the most similar is the one with soup"


def test_a_search_ends_the_session_and_votes_for_nothing() -> None:
    model = SessionKnn()
    learn(model, BOB, BREAD, MILK)
    model.learn(BOB, NONE, 0, session=1)
    learn(model, BOB, TEA, session=0)
    learn(model, ANN, BREAD)
    assert model.scored(ANN).top(5) == [BREAD, MILK]


def random_log() -> EventLog:
    """Sessions of a user each, one after the other."""
    random = np.random.default_rng(3)
    length = random.integers(1, 7, SESSIONS)
    user = np.repeat(np.arange(SESSIONS), length)
    position = np.concatenate([np.arange(n) for n in length])
    return EventLog.from_columns(
        EventColumns(
            user, random.integers(ITEMS, size=len(user)), np.zeros_like(user), user * HOUR_MS + position * 1000, user
        ),
        user_ids=tuple(map(str, range(SESSIONS))),
        item_ids=tuple(map(str, range(ITEMS))),
    )


def test_the_baseline_ranks_as_the_seed_model_of_the_same_rule() -> None:
    """Both know 59 sessions that have ended; the 60th is the prediction point."""
    events, rule = random_log(), SessionKnnRule(recent=4, half_life_ms=9 * HOUR_MS, neighbours=7)
    seed_model = SessionKnnSeedModel(rule)
    past = events.take(events.user < SESSIONS - 1)
    seed_model.fit(past, np.zeros((ITEMS, 1), np.float32), lambda share: None)
    for first in range(ITEMS):
        model = SessionKnn(rule)
        for visit in visits(past):
            model.learn(*visit)
        recent = [(first + 5 * n) % ITEMS for n in range(3)]
        for n, item in enumerate(recent):
            model.learn(SESSIONS - 1, item, SESSIONS * HOUR_MS + n, SESSIONS)
        newest_first = np.array([recent[::-1]], np.int32)
        contexts = Contexts(
            np.array([SESSIONS - 1], np.int32), newest_first, np.full_like(newest_first, SESSIONS * HOUR_MS, np.int64)
        )
        # a session more, of the prediction point itself, changes idf for all items alike but for their logarithm
        seed_model._weight = np.array([model._squared_idf(np.array([item]))[0] for item in range(ITEMS)])
        listed = seed_model.predict_top_k(contexts, 8).items[0]
        assert model.scored(SESSIONS - 1).top(8) == listed[listed >= 0].tolist()


def test_the_sessions_of_an_item_are_counted_as_the_seed_model_counts_them() -> None:
    events, model, seed_model = random_log(), SessionKnn(), SessionKnnSeedModel()
    for visit in visits(events):
        model.learn(*visit)
    seed_model.fit(events, np.zeros((ITEMS, 1), np.float32), lambda share: None)
    np.testing.assert_allclose(model._squared_idf(np.arange(ITEMS, dtype=np.int32)), seed_model._weight)


@pytest.mark.parametrize("model", [SessionKnn(capacity=4), UserKnn(capacity=4)], ids=lambda model: model.name)
def test_visits_beyond_the_capacity_are_forgotten(model: SessionKnn | UserKnn) -> None:
    learn(model, BOB, BREAD, MILK)
    learn(model, ANN, BREAD)
    assert MILK in model.scored(ANN).top(5, exclude={BREAD})
    learn(model, CAT, TEA, BEER, TEA)
    assert model.scored(ANN).top(5, exclude={BREAD}) == []
    for n in range(50):
        learn(model, n % 5, n % 3, n % 4, session=n // 7)
        assert len(model.scored(n % 5).top(5)) <= 4


def test_a_visit_log_links_visits_that_are_still_there() -> None:
    log = VisitLog(3)
    first = log.append(BREAD, owner=1, ts=5, before=-1)
    second = log.append(MILK, owner=1, ts=6, before=first)
    assert (log.columns.after_of_owner[first], log.columns.before_of_owner[second]) == (second, first)
    log.append(BREAD, owner=2, ts=7, before=-1)
    log.append(BREAD, owner=1, ts=8, before=first)  # takes the place of the first
    assert (log.first, log.newest_ts) == (1, 8)
    assert log.columns.after_of_owner[0] == -1, "no visit follows itself"


def test_a_similar_user_votes_for_what_they_chose_and_so_does_the_user() -> None:
    """Bob shares bread with Ann, Cat shares nothing. Own visits weigh half of Bob's: milk before tea."""
    model = UserKnn(UserKnnRule(recency=1000, own=0.5))
    learn(model, BOB, BREAD, MILK)
    learn(model, CAT, SOUP, BEER)
    learn(model, ANN, TEA, BREAD)
    assert model.scored(ANN).top(5) == [BREAD, MILK, TEA]
    model.rule = replace(model.rule, own=2.0)
    assert model.scored(ANN).top(5) == [BREAD, TEA, MILK]


def test_a_user_with_more_in_common_counts_more() -> None:
    model = UserKnn(UserKnnRule(recency=1000))
    learn(model, BOB, BREAD, TEA, MILK)
    learn(model, CAT, BREAD, BEER)
    learn(model, DAN, SOUP)
    learn(model, ANN, BREAD, TEA)
    assert model.scored(ANN).top(5, exclude={BREAD, TEA}) == [MILK, BEER]


def test_what_a_user_chose_last_counts_most() -> None:
    model = UserKnn(UserKnnRule(recency=2, own=0.0))
    learn(model, BOB, MILK, SOUP, BEER, BREAD)
    learn(model, ANN, BREAD)
    assert model.scored(ANN).top(5) == [BREAD, BEER, SOUP, MILK]


@pytest.mark.parametrize("model", [SessionKnn(), UserKnn()], ids=lambda model: model.name)
def test_an_unknown_user_has_an_empty_slate(model: SessionKnn | UserKnn) -> None:
    assert model.scored(ANN).top(5) == []
    learn(model, BOB, BREAD, MILK)
    assert model.scored(ANN).top(5) == []
