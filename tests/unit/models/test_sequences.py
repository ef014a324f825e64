from __future__ import annotations

import numpy as np

from models.log import EventLog
from models.sampled_softmax import Negatives, draw_targets
from models.sequences import Sequences


def log() -> EventLog:
    """User 0 has items 0..9, user 1 items 10..12, one a second, their events mixed."""
    user = np.array([0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0])
    item = np.where(user == 0, np.cumsum(user == 0) - 1, 9 + np.cumsum(user == 1))
    n = len(user)
    ids = tuple(map(str, range(13)))
    return EventLog.from_columns(
        user, item, np.zeros(n, np.int64), 1000 * np.arange(n), np.zeros(n, np.int64), user_ids=("0", "1"), item_ids=ids
    )


def test_events_stand_by_user_in_order_of_time() -> None:
    sequences = Sequences.of(log())
    assert sequences.item.tolist() == list(range(13))
    assert sequences.start.tolist() == [0, 10, 13]
    assert sequences.seconds_since[[0, 10]].tolist() == [0, 0]
    assert sequences.seconds_since[1] == 2


def test_windows_cover_every_event_once_and_never_two_users() -> None:
    sequences = Sequences.of(log())
    for seed in range(20):
        bounds = sequences.windows(4, np.random.default_rng(seed))
        windows = sequences.gather(bounds)
        assert sorted(windows.row[windows.present]) == list(range(13))
        for rows, present in zip(windows.row, windows.present, strict=True):
            assert len(np.unique(sequences.user[rows[present]])) == 1


def test_contexts_are_newest_first_and_end_at_the_users_first_event() -> None:
    contexts = Sequences.of(log()).contexts(np.array([2, 11]), 4)
    assert contexts.user.tolist() == [0, 1]
    assert contexts.recent.tolist() == [[2, 1, 0, -1], [11, 10, -1, -1]]


def test_what_follows_ends_at_the_users_last_event() -> None:
    assert Sequences.of(log()).following(np.array([7, 12]), 3).tolist() == [[8, 9, -1], [-1, -1, -1]]


def test_targets_lie_ahead_in_the_same_users_sequence() -> None:
    sequences, random = Sequences.of(log()), np.random.default_rng(0)
    windows = sequences.gather(sequences.windows(4, random))
    for most in (3, 100):
        where, target = draw_targets(sequences, windows, 2.0, most, random)
        moment = windows.row[where]
        assert 0 < len(target) <= most
        assert (target > moment).all()
        assert (sequences.user[target] == sequences.user[moment]).all()


def test_targets_are_drawn_among_the_rows_that_may_be_predicted() -> None:
    sequences, random = Sequences.of(log()), np.random.default_rng(0)
    windows = sequences.gather(sequences.windows(4, random))
    odd = sequences.item % 2 == 1
    where, target = draw_targets(sequences, windows, 1.0, 100, random, odd)
    assert sorted(target.tolist()) == [1, 3, 5, 7, 9, 11]
    assert sorted(windows.row[where].tolist()) == [0, 2, 4, 6, 8, 10]


def test_some_events_alone_are_as_if_the_users_had_done_nothing_else() -> None:
    sequences = Sequences.of(log())
    alone = sequences.only(sequences.item % 5 == 0)
    assert alone.item.tolist() == [0, 5, 10]
    assert alone.user.tolist() == [0, 0, 1]
    assert alone.start.tolist() == [0, 2, 3]
    assert alone.seconds_since.tolist() == [0, 7, 0]
    assert len(sequences.only(sequences.item < 0)) == 0


def test_negatives_are_drawn_half_by_popularity_and_half_evenly() -> None:
    items = np.array([3] * 90 + [5] * 10)
    negatives = Negatives.of(items, 8)
    drawn = negatives.draw(10_000, np.random.default_rng(0))
    assert set(drawn) == {3, 5}
    assert abs((drawn == 3).mean() - 0.7) < 0.02
    assert abs(float(negatives.log_probability[3].exp()) - 0.7) < 1e-6
