from __future__ import annotations

import numpy as np
import pytest

from models.data.event_log import EventColumns, EventLog
from models.data.sequences import Contexts, Sequences
from models.networks.sampled_softmax import draw_targets
from tests.support.training_data import with_searches


def log() -> EventLog:
    """User 0 has items 0..9, user 1 items 10..12, one event per second, interleaved."""
    user = np.array([0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0])
    item = np.where(user == 0, np.cumsum(user == 0) - 1, 9 + np.cumsum(user == 1))
    n = len(user)
    ids = tuple(map(str, range(13)))
    return EventLog.from_columns(
        EventColumns(user, item, np.zeros(n, np.int64), 1000 * np.arange(n), np.zeros(n, np.int64)),
        user_ids=("0", "1"),
        item_ids=ids,
    )


def test_events_are_sorted_by_user_and_time() -> None:
    sequences = Sequences.from_log(log())
    assert sequences.item.tolist() == list(range(13))
    assert sequences.start.tolist() == [0, 10, 13]
    assert sequences.seconds_since[[0, 10]].tolist() == [0, 0]
    assert sequences.seconds_since[1] == 2


def test_windows_cover_every_event_once_and_never_two_users() -> None:
    sequences = Sequences.from_log(log())
    for seed in range(20):
        bounds = sequences.windows(4, np.random.default_rng(seed))
        windows = sequences.gather(bounds)
        assert sorted(windows.row[windows.present]) == list(range(13))
        for rows, present in zip(windows.row, windows.present, strict=True):
            assert len(np.unique(sequences.user[rows[present]])) == 1


def test_contexts_are_newest_first_and_end_at_the_users_first_event() -> None:
    contexts = Sequences.from_log(log()).contexts(np.array([2, 11]), 4)
    assert contexts.user.tolist() == [0, 1]
    assert contexts.recent.tolist() == [[2, 1, 0, -1], [11, 10, -1, -1]]


def test_contexts_have_times_and_types_of_the_recent_events() -> None:
    contexts = Sequences.from_log(log()).contexts(np.array([2, 11]), 4)
    assert contexts.times().tolist() == [[3000, 2000, 0, 0], [4000, 1000, 0, 0]]
    assert contexts.types().shape == (2, 4)
    part = contexts.part(1, 2)
    assert (part.recent.tolist(), part.times().tolist()) == ([[11, 10, -1, -1]], [[4000, 1000, 0, 0]])


def test_contexts_of_some_events_are_as_if_the_others_had_not_happened() -> None:
    contexts = Sequences.from_log(log()).contexts(np.array([2, 11]), 4)
    some = contexts.only(np.array([[False, True, False, True], [False, True, False, False]]))
    assert some.recent.tolist() == [[1, -1, -1, -1], [10, -1, -1, -1]]
    assert some.times().tolist() == [[2000, 0, 0, 0], [1000, 0, 0, 0]]


def test_reading_missing_times_or_types_of_contexts_is_an_error() -> None:
    contexts = Contexts(np.zeros(1, np.int32), np.zeros((1, 2), np.int32))
    with pytest.raises(ValueError, match="no `ts`"):
        contexts.part(0, 1).times()
    with pytest.raises(ValueError, match="no `type`"):
        contexts.only(np.ones((1, 2), np.bool_)).types()


def test_following_items_end_at_the_users_last_event() -> None:
    assert Sequences.from_log(log()).following(np.array([7, 12]), 3).tolist() == [[8, 9, -1], [-1, -1, -1]]


def test_targets_are_later_events_of_the_same_user() -> None:
    sequences, random = Sequences.from_log(log()), np.random.default_rng(0)
    windows = sequences.gather(sequences.windows(4, random))
    for most in (3, 100):
        where, target = draw_targets(sequences, windows, 2.0, most, random)
        moment = windows.row[where]
        assert 0 < len(target) <= most
        assert (target > moment).all()
        assert (sequences.user[target] == sequences.user[moment]).all()


def test_targets_are_drawn_among_the_rows_that_may_be_predicted() -> None:
    sequences, random = Sequences.from_log(log()), np.random.default_rng(0)
    windows = sequences.gather(sequences.windows(4, random))
    odd = sequences.item % 2 == 1
    where, target = draw_targets(sequences, windows, 1.0, 100, random, odd)
    assert sorted(target.tolist()) == [1, 3, 5, 7, 9, 11]
    assert sorted(windows.row[where].tolist()) == [0, 2, 4, 6, 8, 10]


def test_targets_are_visits_that_many_visits_later_whatever_was_searched_between() -> None:
    visits, random = log(), np.random.default_rng(0)
    sequences = Sequences.with_searches(with_searches(visits, visits.item))
    windows = sequences.gather(sequences.windows(100, random))
    where, target = draw_targets(sequences, windows, 1.0, 100, random)
    point = windows.row[where]
    assert (
        sequences.item[target].tolist()
        == np.where(sequences.has_item[point], sequences.item[point] + 1, sequences.query[point]).tolist()
    ), "after a visit the user's next one, after a search the one that follows it"
    assert len(point) == 11 + 13


def test_a_subset_of_events_is_as_if_the_users_had_no_others() -> None:
    sequences = Sequences.from_log(log())
    alone = sequences.only(sequences.item % 5 == 0)
    assert alone.item.tolist() == [0, 5, 10]
    assert alone.user.tolist() == [0, 0, 1]
    assert alone.start.tolist() == [0, 2, 3]
    assert alone.seconds_since.tolist() == [0, 7, 0]
    assert len(sequences.only(sequences.item < 0)) == 0


def test_no_windows_make_no_batches() -> None:
    """A child without new events, whose old ones are not replayed, has none."""
    sequences = Sequences.from_log(EventLog.from_events([]))
    random = np.random.default_rng(0)
    assert sequences.batches(sequences.windows(4, random), 8, random) == []


def test_windows_cover_their_events_and_the_users_next_one_after_each() -> None:
    sequences = Sequences.from_log(log())
    covered = sequences.covered(np.array([[1, 3], [4, 5], [9, 10]]))
    assert np.flatnonzero(covered).tolist() == [1, 2, 3, 4, 5, 9], "10 is the next user's first"
    assert sequences.covered(sequences.windows(4, np.random.default_rng(0))).all()
    assert not sequences.covered(np.empty((0, 2), np.int64)).any()
