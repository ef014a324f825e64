from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.data.event_log import EventColumns, EventLog
from models.data.sequences import Contexts, Sequences
from models.knn.rule import REACH, SessionKnnRule
from models.seeds.session_knn import SessionKnnSeedModel

ITEMS = 30
HOUR_MS = 3600_000
SHARED, NEXT, FAR, OTHER = 0, 1, 2, 3


def log(*sessions: list[int]) -> EventLog:
    """Each session has its own user and begins an hour after the one before; one item per second."""
    lengths = [len(items) for items in sessions]
    user = np.repeat(np.arange(len(sessions)), lengths)
    position = np.concatenate([np.arange(length) for length in lengths])
    return EventLog.from_columns(
        EventColumns(
            user,
            np.concatenate([np.array(items) for items in sessions]),
            np.zeros(len(user), np.int64),
            user * HOUR_MS + position * 1000,
            user,
        ),
        user_ids=tuple(map(str, range(len(sessions)))),
        item_ids=tuple(map(str, range(ITEMS))),
    )


def fitted(events: EventLog, seed_model: SessionKnnSeedModel) -> SessionKnnSeedModel:
    seed_model.fit(events, np.zeros((ITEMS, 1), np.float32), lambda share: None)
    return seed_model


def contexts(*recent: int, user: int = -1, ts: int = 1000 * HOUR_MS) -> Contexts:
    """One prediction point, newest item first."""
    items = np.array([recent], np.int32)
    return Contexts(np.array([user], np.int32), items, np.full(items.shape, ts))


def listed(seed_model: SessionKnnSeedModel, contexts: Contexts) -> list[int]:
    items = seed_model.predict_top_k(contexts, ITEMS).items[0]
    return items[items >= 0].tolist()


def test_items_close_to_the_shared_item_rank_above_distant_ones() -> None:
    seed_model = fitted(log([SHARED, NEXT, FAR]), SessionKnnSeedModel())
    assert listed(seed_model, contexts(SHARED)) == [SHARED, NEXT, FAR]


def test_a_recent_session_counts_more_than_an_old_one() -> None:
    seed_model = fitted(log([SHARED, FAR], [SHARED, NEXT]), SessionKnnSeedModel(SessionKnnRule(half_life_ms=HOUR_MS)))
    assert listed(seed_model, contexts(SHARED, ts=2 * HOUR_MS)) == [SHARED, NEXT, FAR]


def test_a_session_that_shares_the_newest_item_counts_more_than_one_that_shares_an_older() -> None:
    seed_model = fitted(log([SHARED, FAR], [OTHER, NEXT]), SessionKnnSeedModel())
    assert listed(seed_model, contexts(OTHER, SHARED))[:2] == [OTHER, NEXT]
    assert listed(seed_model, contexts(SHARED, OTHER))[:2] == [SHARED, FAR]


def test_only_the_newest_sessions_of_an_item_are_searched() -> None:
    seed_model = fitted(log([SHARED, FAR], [SHARED, NEXT]), SessionKnnSeedModel(SessionKnnRule(sampled=1)))
    assert listed(seed_model, contexts(SHARED)) == [SHARED, NEXT]
    assert listed(seed_model, contexts(SHARED, ts=HOUR_MS)) == [SHARED, FAR], "of those that had ended by then"


def test_neither_the_own_session_nor_one_that_ends_later_is_a_neighbour() -> None:
    events = log([SHARED, NEXT], [SHARED, 20, 21, 22], [SHARED, OTHER])
    seed_model, sequences = fitted(events, SessionKnnSeedModel()), Sequences.from_log(events)
    for row in np.flatnonzero(sequences.user == 1):
        assert set(listed(seed_model, sequences.contexts(np.array([row]), 8))) == {SHARED, NEXT}


def test_a_session_of_one_event_predicts_nothing() -> None:
    assert listed(fitted(log([SHARED], [OTHER, NEXT]), SessionKnnSeedModel()), contexts(SHARED)) == []


def test_a_users_earlier_session_is_a_neighbour_like_any() -> None:
    events = log([SHARED, NEXT], [OTHER, FAR])
    events = replace(events, user=np.zeros_like(events.user))
    assert NEXT in listed(fitted(events, SessionKnnSeedModel()), contexts(SHARED, user=0, ts=HOUR_MS))


def test_without_a_similar_session_the_list_is_empty_and_the_confidence_0() -> None:
    top_k = fitted(log([SHARED, NEXT]), SessionKnnSeedModel()).predict_top_k(contexts(OTHER), 3)
    assert top_k.items.tolist() == [[-1, -1, -1]]
    assert top_k.confidence.tolist() == [0]


def test_many_neighbours_that_agree_give_more_confidence_than_few_that_do_not() -> None:
    seed_model = fitted(log(*[[SHARED, NEXT]] * 20, [OTHER, 10], [OTHER, 11], [OTHER, 12]), SessionKnnSeedModel())
    assert (
        seed_model.predict_top_k(contexts(SHARED), 2).confidence[0]
        > 1.5 * seed_model.predict_top_k(contexts(OTHER), 2).confidence[0]
    )


def test_contexts_without_time_stamps_are_an_error() -> None:
    seed_model = fitted(log([SHARED, NEXT]), SessionKnnSeedModel())
    with pytest.raises(ValueError, match=r"no `ts`.*Sequences\.contexts"):
        seed_model.predict_top_k(Contexts(np.zeros(1, np.int32), np.zeros((1, 2), np.int32)), 3)


def test_the_index_finds_what_comparing_with_every_session_finds() -> None:
    random = np.random.default_rng(0)
    sessions = [random.integers(0, 8, random.integers(1, 7)).tolist() for _ in range(40)]
    rule = SessionKnnRule(recent=3, half_life_ms=9 * HOUR_MS, neighbours=100)
    seed_model = fitted(log(*sessions), SessionKnnSeedModel(rule))
    for _ in range(30):
        recent, ts = random.integers(0, 8, 4).tolist(), int(random.integers(0, 41 * HOUR_MS))
        votes = _votes(sessions, recent, ts, seed_model)
        top_k = seed_model.predict_top_k(contexts(*recent, ts=ts), 30)
        named = top_k.items[0][top_k.items[0] >= 0]
        assert set(named) == set(np.flatnonzero(votes))
        np.testing.assert_allclose(votes[named], np.sort(votes[votes > 0])[::-1])


def _votes(sessions: list[list[int]], recent: list[int], ts: int, seed_model: SessionKnnSeedModel) -> np.ndarray:
    """The rule, written plainly for one prediction point."""
    votes = np.zeros(ITEMS)
    session_count = [sum(item in session and len(session) > 1 for session in sessions) for item in range(ITEMS)]
    newest = list(dict.fromkeys(recent[: seed_model.rule.recent]))
    age = {item: recent.index(item) for item in newest}
    for number, session in enumerate(sessions):
        end = number * HOUR_MS + (len(session) - 1) * 1000
        shared = [item for item in newest if item in session]
        if end >= ts or not shared or len(session) == 1:
            continue
        similarity = sum(
            np.log1p(len(sessions) / session_count[item]) ** 2 * np.exp(-age[item] / seed_model.rule.recency)
            for item in shared
        )
        last = len(session) - 1 - session[::-1].index(shared[0])
        for index, item in enumerate(session):
            if abs(index - last) <= REACH * seed_model.rule.distance:
                faded = np.exp(-abs(index - last) / seed_model.rule.distance)
                votes[item] += similarity * 0.5 ** ((ts - end) / seed_model.rule.half_life_ms) * faded
    return votes
