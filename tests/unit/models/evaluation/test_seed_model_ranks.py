from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from anabranch.placements import AGAIN
from anabranch.ranking.policy import Policy
from anabranch.ranking.user_state.session import SESSION_GAP_MS
from models.data.event_log import NONE, EventColumns, EventLog
from models.data.excluded_items import SlateRules
from models.data.sequences import Contexts
from models.evaluation.seed_model_ranks import prediction_points_before, seed_ranks
from models.seeds.seed_model import Done, TopK, Vectors
from tests.support.layouts import LAYOUT

MINUTE = 60_000


@dataclass
class FixedSeed:
    """Predicts the same items at every prediction point."""

    items: list[int]
    name: str = "fixed"

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None: ...

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        listed = np.tile(np.array(self.items[:k], np.int32), (len(contexts), 1))
        return TopK(listed, np.ones(len(contexts), np.float32))


def log_of(*events: tuple[int, int, int, int]) -> EventLog:
    """(user, item, minute, session) of each event."""
    user, item, minute, session = np.array(events).T
    return EventLog.from_columns(
        EventColumns(user, item, np.zeros(len(user), np.int64), minute * MINUTE, session),
        user_ids=("a", "b"),
        item_ids=tuple(f"item {number}" for number in range(10)),
    )


ONE_SESSION = log_of((0, 1, 0, NONE), (1, 9, 0, NONE), (0, 2, 1, NONE), (0, 3, 2, NONE))


def hidden(log: EventLog, row: int, policy: Policy) -> list[int]:
    moments = prediction_points_before(log, np.array([row]), SlateRules(policy, LAYOUT))
    return [item for item in moments.excluded[0].tolist() if item != NONE]


def test_a_prediction_point_has_the_users_items_newest_first_without_the_next_one() -> None:
    recent = prediction_points_before(ONE_SESSION, np.array([3]), SlateRules(Policy(), LAYOUT)).contexts.recent[0]
    assert recent[:3].tolist() == [2, 1, NONE]


def test_a_seed_model_is_given_as_many_items_as_a_user_state_holds() -> None:
    rules = SlateRules(Policy(), LAYOUT._replace(history=1))
    assert prediction_points_before(ONE_SESSION, np.array([3]), rules).contexts.recent.tolist() == [[2]]


def test_a_point_after_nothing_but_a_search_has_no_items() -> None:
    log = EventLog.from_columns(
        EventColumns(np.array([0, 1, 1]), np.array([1, NONE, 2]), np.array([0, 3, 0]), np.arange(3), np.full(3, NONE)),
        user_ids=("a", "b"),
        item_ids=tuple("012"),
    )
    points = prediction_points_before(log, np.array([2]), SlateRules(Policy(exclude_seen=True), LAYOUT))
    assert points.contexts.user.tolist() == [1]
    assert (points.contexts.recent == NONE).all()
    assert points.excluded.size == 0


def test_items_of_the_session_are_hidden_unless_the_policy_shows_them_again() -> None:
    assert hidden(ONE_SESSION, 3, Policy()) == [2, 1]
    assert hidden(ONE_SESSION, 3, Policy(allow_session_repeats=True)) == []


@pytest.mark.parametrize(
    ("pause", "expected"), [(SESSION_GAP_MS // MINUTE, [2, 1]), (SESSION_GAP_MS // MINUTE + 1, [2])]
)
def test_a_pause_of_more_than_half_an_hour_ends_a_session_without_a_name(pause: int, expected: list[int]) -> None:
    assert hidden(log_of((0, 1, 0, NONE), (0, 2, pause, NONE), (0, 3, pause + 1, NONE)), 2, Policy()) == expected


def test_a_named_session_lasts_until_another_is_named() -> None:
    log = log_of((0, 1, 0, 5), (0, 2, 500, 5), (0, 3, 501, 6), (0, 4, 502, 6))
    assert hidden(log, 2, Policy()) == [2, 1]
    assert hidden(log, 3, Policy()) == [3]


def test_a_policy_that_discovers_hides_all_that_the_user_had() -> None:
    log = log_of((0, 1, 0, 5), (0, 2, 500, 6), (0, 3, 501, 6))
    assert hidden(log, 2, Policy(exclude_seen=True)) == [2, 1]


def test_a_seed_is_ranked_by_its_list_without_what_may_not_be_shown() -> None:
    moments = prediction_points_before(ONE_SESSION, np.array([2, 3]), SlateRules(Policy(), LAYOUT))
    ranks = seed_ranks(FixedSeed([1, 7, 2, 3]), moments, np.array([2, 3], np.int32), slate=20)
    assert ranks.tolist() == [2, 2], "1 is hidden at both moments, 2 at the second"
    assert seed_ranks(FixedSeed([1, 7, 2, 3]), moments, np.array([2, 1], np.int32), slate=20).tolist() == [2, 0]


def test_where_a_placement_shows_only_what_the_user_had_a_seed_is_ranked_among_these() -> None:
    """Before the event, 1 and 2 are of an earlier session and 3 is of the current one; the others are new."""
    log = log_of((0, 1, 0, 5), (0, 2, 1, 5), (0, 3, 500, 6), (0, 1, 501, 6))
    rules = SlateRules(Policy(placements=(AGAIN,)), LAYOUT)
    moments = prediction_points_before(log, np.array([3, 3]), rules)
    seed, wanted = FixedSeed([7, 8, 3, 9, 2, 1]), np.array([1, 3], np.int32)
    assert seed_ranks(seed, moments, wanted, slate=2).tolist() == [2, 0], "3 is hidden"
    assert seed_ranks(seed, moments, wanted, slate=1).tolist() == [0, 0]


def test_places_below_the_slate_do_not_count() -> None:
    moments = prediction_points_before(
        ONE_SESSION, np.array([3]), SlateRules(Policy(allow_session_repeats=True), LAYOUT)
    )
    wanted = np.array([3], np.int32)
    assert seed_ranks(FixedSeed([7, 3]), moments, wanted, slate=2).tolist() == [2]
    assert seed_ranks(FixedSeed([7, 8, 3]), moments, wanted, slate=2).tolist() == [0]
