from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.data.event_log import EventColumns, EventLog
from models.data.sequences import Contexts, Sequences
from models.seeds.session_knn import REACH, SessionKnnSeedModel

ITEMS = 30
HOUR_MS = 3600_000
SHARED, NEXT, FAR, OTHER = 0, 1, 2, 3


def log(*sessions: list[int]) -> EventLog:
    """Each session is another user's, an hour after the one before, one item a second."""
    lengths = [len(items) for items in sessions]
    user = np.repeat(np.arange(len(sessions)), lengths)
    place = np.concatenate([np.arange(length) for length in lengths])
    return EventLog.from_columns(
        EventColumns(
            user,
            np.concatenate([np.array(items) for items in sessions]),
            np.zeros(len(user), np.int64),
            user * HOUR_MS + place * 1000,
            user,
        ),
        user_ids=tuple(map(str, range(len(sessions)))),
        item_ids=tuple(map(str, range(ITEMS))),
    )


def fitted(events: EventLog, seed: SessionKnnSeedModel) -> SessionKnnSeedModel:
    seed.fit(events, np.zeros((ITEMS, 1), np.float32), lambda share: None)
    return seed


def moment(*recent: int, user: int = -1, ts: int = 1000 * HOUR_MS) -> Contexts:
    """One moment, newest item first."""
    items = np.array([recent], np.int32)
    return Contexts(np.array([user], np.int32), items, np.full(items.shape, ts))


def listed(seed: SessionKnnSeedModel, contexts: Contexts) -> list[int]:
    items = seed.predict_top_k(contexts, ITEMS).items[0]
    return items[items >= 0].tolist()


def test_what_stands_next_to_the_shared_item_comes_before_what_is_far() -> None:
    seed = fitted(log([SHARED, NEXT, FAR]), SessionKnnSeedModel())
    assert listed(seed, moment(SHARED)) == [SHARED, NEXT, FAR]


def test_a_fresh_session_counts_more_than_an_old_one() -> None:
    seed = fitted(log([SHARED, FAR], [SHARED, NEXT]), SessionKnnSeedModel(half_life_ms=HOUR_MS))
    assert listed(seed, moment(SHARED, ts=2 * HOUR_MS)) == [SHARED, NEXT, FAR]


def test_a_session_that_shares_the_newest_item_counts_more_than_one_that_shares_an_older() -> None:
    seed = fitted(log([SHARED, FAR], [OTHER, NEXT]), SessionKnnSeedModel())
    assert listed(seed, moment(OTHER, SHARED))[:2] == [OTHER, NEXT]
    assert listed(seed, moment(SHARED, OTHER))[:2] == [SHARED, FAR]


def test_only_the_newest_sessions_of_an_item_are_looked_at() -> None:
    seed = fitted(log([SHARED, FAR], [SHARED, NEXT]), SessionKnnSeedModel(sampled=1))
    assert listed(seed, moment(SHARED)) == [SHARED, NEXT]
    assert listed(seed, moment(SHARED, ts=HOUR_MS)) == [SHARED, FAR], "of those that had ended by then"


def test_a_moment_is_taught_neither_by_its_own_session_nor_by_one_that_ends_later() -> None:
    events = log([SHARED, NEXT], [SHARED, 20, 21, 22], [SHARED, OTHER])
    seed, sequences = fitted(events, SessionKnnSeedModel()), Sequences.from_log(events)
    for row in np.flatnonzero(sequences.user == 1):
        assert set(listed(seed, sequences.contexts(np.array([row]), 8))) == {SHARED, NEXT}


def test_a_session_of_one_event_teaches_nothing() -> None:
    assert listed(fitted(log([SHARED], [OTHER, NEXT]), SessionKnnSeedModel()), moment(SHARED)) == []


def test_a_users_earlier_session_is_a_neighbour_like_any() -> None:
    events = log([SHARED, NEXT], [OTHER, FAR])
    events = replace(events, user=np.zeros_like(events.user))
    assert NEXT in listed(fitted(events, SessionKnnSeedModel()), moment(SHARED, user=0, ts=HOUR_MS))


def test_a_moment_like_no_session_has_an_empty_list_and_no_confidence() -> None:
    top_k = fitted(log([SHARED, NEXT]), SessionKnnSeedModel()).predict_top_k(moment(OTHER), 3)
    assert top_k.items.tolist() == [[-1, -1, -1]]
    assert top_k.confidence.tolist() == [0]


def test_many_neighbours_that_agree_give_more_confidence_than_few_that_do_not() -> None:
    seed = fitted(log(*[[SHARED, NEXT]] * 20, [OTHER, 10], [OTHER, 11], [OTHER, 12]), SessionKnnSeedModel())
    assert (
        seed.predict_top_k(moment(SHARED), 2).confidence[0] > 1.5 * seed.predict_top_k(moment(OTHER), 2).confidence[0]
    )


def test_moments_without_time_stamps_are_refused() -> None:
    seed = fitted(log([SHARED, NEXT]), SessionKnnSeedModel())
    with pytest.raises(ValueError, match=r"no `ts`.*Sequences\.contexts"):
        seed.predict_top_k(Contexts(np.zeros(1, np.int32), np.zeros((1, 2), np.int32)), 3)


def test_the_index_finds_what_comparing_with_every_session_finds() -> None:
    random = np.random.default_rng(0)
    sessions = [random.integers(0, 8, random.integers(1, 7)).tolist() for _ in range(40)]
    seed = fitted(log(*sessions), SessionKnnSeedModel(recent=3, half_life_ms=9 * HOUR_MS, neighbours=100))
    for _ in range(30):
        recent, ts = random.integers(0, 8, 4).tolist(), int(random.integers(0, 41 * HOUR_MS))
        votes = _votes(sessions, recent, ts, seed)
        top_k = seed.predict_top_k(moment(*recent, ts=ts), 30)
        named = top_k.items[0][top_k.items[0] >= 0]
        assert set(named) == set(np.flatnonzero(votes))
        np.testing.assert_allclose(votes[named], np.sort(votes[votes > 0])[::-1])


def _votes(sessions: list[list[int]], recent: list[int], ts: int, seed: SessionKnnSeedModel) -> np.ndarray:
    """The rule as one would write it for one moment."""
    votes = np.zeros(ITEMS)
    found_in = [sum(item in session and len(session) > 1 for session in sessions) for item in range(ITEMS)]
    newest = list(dict.fromkeys(recent[: seed.recent]))
    place = {item: recent.index(item) for item in newest}
    for number, session in enumerate(sessions):
        end = number * HOUR_MS + (len(session) - 1) * 1000
        shared = [item for item in newest if item in session]
        if end >= ts or not shared or len(session) == 1:
            continue
        similarity = sum(
            np.log1p(len(sessions) / found_in[item]) ** 2 * np.exp(-place[item] / seed.recency) for item in shared
        )
        last = len(session) - 1 - session[::-1].index(shared[0])
        for at, item in enumerate(session):
            if abs(at - last) <= REACH * seed.distance:
                faded = np.exp(-abs(at - last) / seed.distance)
                votes[item] += similarity * 0.5 ** ((ts - end) / seed.half_life_ms) * faded
    return votes
