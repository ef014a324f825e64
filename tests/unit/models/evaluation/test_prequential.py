from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from anabranch.messages import Event, Feedback
from anabranch.placements import AGAIN, DISCOVER, FOR_YOU
from anabranch.ranking.pipeline.feedback import NO_SLATE, NOT_ON_SLATE
from anabranch.ranking.policy import Policy
from models.data.event_log import NONE, EventColumns, EventLog
from models.data.excluded_items import SlateRules
from models.evaluation.baselines import Baseline, Popularity
from models.evaluation.prequential import K, Prequential, Question, ServedLog, evaluate_prequentially, predict
from models.pipeline.baselines import BASELINES, make_baselines
from models.pipeline.presets import preset
from tests.support.layouts import LAYOUT

RULES = SlateRules(Policy(), LAYOUT)


def purchase(user: str, item: str, ts: int, session: str) -> Event:
    return Event(event_id=f"{user}{ts}", user_id=user, type="purchase", item_id=item, ts=ts, session_id=session)


def feedback(event: Event, release: str | None, rank: int | None = None) -> Feedback:
    return Feedback(event=event, partition=0, offset=event.ts, release=release, rank=rank, slate_size=20)


HISTORY = [
    purchase("ann", "milk", 1, "a"),
    purchase("bob", "milk", 2, "b"),
    purchase("bob", "soup", 3, "b"),
]
SERVED = [
    feedback(purchase("cat", "milk", 7, "d"), release=None),
    feedback(purchase("ann", "milk", 5, "c"), release="r1", rank=2),
    feedback(purchase("ann", "soup", 6, "c"), release="r1"),
    feedback(purchase("bob", "beer", 8, "b"), release="r2", rank=1),
]


def scored(served: ServedLog) -> Prequential:
    return evaluate_prequentially(served, RULES, make_baselines(preset("baskets")))


def test_warm_up_and_feedback_become_one_log_in_order_of_time() -> None:
    served = ServedLog.from_feedback(HISTORY, SERVED)
    assert served.log.ts.tolist() == [1, 2, 3, 5, 6, 7, 8]
    assert served.rank.tolist() == [NO_SLATE, NO_SLATE, NO_SLATE, 2, NOT_ON_SLATE, NO_SLATE, 1]
    assert served.releases == ("r1", "r2")
    assert served.release.tolist() == [-1, -1, -1, 0, 0, -1, 1]


def test_impressions_are_no_events_to_predict() -> None:
    impression = Event(event_id="i", user_id="ann", type="impression", ts=4, shown=("soup",))
    joined = Feedback(event=impression, partition=0, offset=9, release="r1", slate_size=2)
    served = ServedLog.from_feedback([impression, *HISTORY], [joined, *SERVED])
    expected = ServedLog.from_feedback(HISTORY, SERVED)
    assert served.log.ts.tolist() == expected.log.ts.tolist()
    assert served.rank.tolist() == expected.rank.tolist()
    assert served.release.tolist() == expected.release.tolist()


def test_only_events_whose_user_had_a_slate_are_scored_for_everyone() -> None:
    prequential = scored(ServedLog.from_feedback(HISTORY, SERVED))
    assert {scores.events for scores in prequential.overall.scores.values()} == {3}
    assert set(prequential.overall.scores) == {"served", *BASELINES}
    assert set(prequential.overall.improvement) == set(BASELINES)


def test_what_was_served_is_scored_by_the_rank_in_the_feedback() -> None:
    served = scored(ServedLog.from_feedback(HISTORY, SERVED)).overall.scores["served"]
    assert served.recall_at_20 == pytest.approx(2 / 3)
    assert served.mrr_at_20 == pytest.approx((1 / 2 + 1) / 3)
    assert served.ndcg_at_20 == pytest.approx((1 / np.log2(3) + 1) / 3)


def test_the_baselines_are_scored_on_what_they_knew_before_the_event() -> None:
    """Ann's milk: of session a still, so no slate may hold it. Ann's soup: popular, not her own, bought with milk
    by Bob alone. Bob's beer: nobody has seen it."""
    scores = scored(ServedLog.from_feedback(HISTORY, SERVED)).overall.scores
    assert scores["personal_frequency"].recall_at_20 == 0
    assert scores["popularity"].recall_at_20 == pytest.approx(1 / 3)
    assert scores["popularity"].mrr_at_20 == pytest.approx(1 / 3), "milk is of Ann's session, so soup is on top"
    assert scores["co_visit"].recall_at_20 == 0, "one user makes no neighbour"


def test_slices_and_releases_part_the_events() -> None:
    prequential = scored(ServedLog.from_feedback(HISTORY, SERVED))
    events = {name: part.scores["served"].events for name, part in prequential.slices.items()}
    new_users = {"after_1_event": 1, "after_2_events": 2}
    assert events == {"repeat": 1, "new_to_user": 2, "first_of_session": 1} | new_users
    assert {name: part.scores["co_visit"].events for name, part in prequential.releases.items()} == {"r1": 2, "r2": 1}
    assert prequential.releases["r2"].scores["served"].recall_at_20 == 1


def test_a_slice_without_events_has_no_lead() -> None:
    prequential = scored(ServedLog.from_feedback(HISTORY, SERVED[-1:]))
    assert prequential.slices["repeat"].scores["served"].events == 0
    assert prequential.slices["repeat"].improvement == {}


def test_a_log_without_any_slate_is_an_account_of_nothing() -> None:
    prequential = scored(ServedLog.from_feedback(HISTORY, []))
    assert prequential.overall.scores["served"].events == 0
    assert prequential.releases == {}


class Watched:
    """A baseline that records its calls."""

    def __init__(self, rival: Baseline) -> None:
        self.name = rival.name
        self._rival = rival
        self.excluded: list[set[int]] = []
        self.among: list[set[int] | None] = []
        self.slates: list[list[int]] = []
        self.order: list[str] = []

    def scored(self, user: int) -> Watched:
        self._user = user
        return self

    def top(self, k: int, exclude: set[int], among: set[int] | None) -> list[int]:  # type: ignore[override]
        self.order.append("predict")
        self.excluded.append(set(exclude))
        self.among.append(among)
        self.slates.append(self._rival.scored(self._user).top(k, exclude, among))
        return self.slates[-1]

    def learn(self, user: int, item: int, ts: int, session: int = -1) -> None:
        self.order.append("learn")
        self._rival.learn(user, item, ts, session)


LOG = EventLog.from_columns(
    EventColumns(
        user=np.array([0, 0, 0, 0]),
        item=np.array([4, 5, 4, 6]),
        type=np.full(4, 2),
        ts=np.arange(4),
        session=np.array([1, 1, 2, 2]),
    ),
    user_ids=("ann",),
    item_ids=tuple("abcdefg"),
)
ALL_BUT_FIRST = np.array([False, True, True, True])


def test_a_slate_leaves_out_the_session_as_known_after_the_event_before() -> None:
    watched = Watched(Popularity())
    predict(LOG, [watched], [Question(ALL_BUT_FIRST, RULES)])
    assert watched.excluded == [{4}, {4, 5}, {4}]


def test_discovery_leaves_out_all_that_the_ranker_remembers_of_the_user() -> None:
    watched = Watched(Popularity())
    predict(LOG, [watched], [Question(ALL_BUT_FIRST, SlateRules(Policy(exclude_seen=True), LAYOUT))])
    assert watched.excluded == [{4}, {4, 5}, {4, 5}]


def test_a_baseline_may_show_again_what_the_ranker_has_forgotten() -> None:
    watched = Watched(Popularity())
    rules = SlateRules(Policy(exclude_seen=True), LAYOUT._replace(history=1, long_term_items=1))
    log = EventLog.from_columns(
        EventColumns(np.zeros(4, int), np.arange(4), np.full(4, 2), np.arange(4), np.full(4, NONE)),
        user_ids=("ann",),
        item_ids=tuple("abcd"),
    )
    predict(log, [watched], [Question(ALL_BUT_FIRST, rules)])
    assert watched.excluded == [{0}, {0, 1}, {1, 2}]


def test_a_baselines_slates_have_the_length_of_the_rankers() -> None:
    watched = Watched(Popularity())
    log = EventLog.from_columns(
        EventColumns(np.arange(30) % 2, np.arange(30), np.full(30, 2), np.arange(30), np.full(30, NONE)),
        user_ids=("ann", "bob"),
        item_ids=tuple(map(str, range(30))),
    )
    short = SlateRules(Policy(), LAYOUT._replace(slate=3))
    predict(log, [watched], [Question(np.arange(30) == 29, short)])
    assert [len(slate) for slate in watched.slates] == [3]


def test_a_baseline_predicts_before_it_learns() -> None:
    watched = Watched(Popularity())
    predict(LOG, [watched], [Question(ALL_BUT_FIRST, RULES)])
    assert watched.order == ["learn", *["predict", "learn"] * 3]


def test_a_baseline_does_not_learn_the_events_twice_that_it_was_trained_on() -> None:
    watched = Watched(Popularity())
    predict(LOG, [watched], [Question(np.array([False, False, True, True]), RULES)], trained_events=2)
    assert watched.order == ["predict", "learn"] * 2


def test_each_placement_is_asked_at_the_events_that_it_is_for_and_shows_what_the_ranker_would() -> None:
    """Ann has e, f in a session and e, g in the next: e is a repeat, f and g are new."""
    watched = Watched(Popularity())
    policy = Policy(placements=(AGAIN, DISCOVER))
    again, discover = SlateRules(policy, LAYOUT).by_placement
    only_repeat, only_new = np.array([False, False, True, False]), np.array([False, True, False, True])
    predict(LOG, [watched], [Question(only_repeat, again), Question(only_new, discover)])
    assert watched.excluded == [{4}, {4, 5}, {4, 5}], "before f, before e, before g"
    assert watched.among == [None, {4, 5}, None]


def test_a_further_placement_is_scored_on_the_events_that_it_is_for() -> None:
    rules = SlateRules(Policy(placements=(FOR_YOU, AGAIN, DISCOVER)), LAYOUT)
    answers = [
        structs.replace(SERVED[1], ranks={"again": 1}),
        SERVED[2],
        structs.replace(SERVED[3], ranks={"discover": 2}),
    ]
    served = ServedLog.from_feedback(HISTORY, answers, rules.policy.placement_names)
    placements = evaluate_prequentially(served, rules, make_baselines(preset("baskets"))).placements
    assert {name: part.scores["served"].events for name, part in placements.items()} == {"again": 1, "discover": 2}
    assert placements["again"].scores["served"].mrr_at_20 == 1
    assert placements["discover"].scores["served"].mrr_at_20 == pytest.approx(1 / 4)
    assert set(placements["again"].improvement) == set(BASELINES)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_recorded_rank_is_the_items_position_on_the_slate(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = 200
    log = EventLog.from_columns(
        EventColumns(
            user=random.integers(5, size=n),
            item=random.zipf(1.5, size=n) % 60,
            type=np.full(n, 2),
            ts=np.sort(random.integers(10**9, size=n)),
            session=random.integers(20, size=n),
        ),
        user_ids=tuple("abcde"),
        item_ids=tuple(map(str, range(60))),
    )
    watched = [Watched(rival) for rival in make_baselines(preset("baskets"))]
    scored = random.random(n) < 0.5
    [predicted] = predict(log, watched, [Question(scored, RULES)])
    for rival in watched:
        for item, slate, rank in zip(log.item[scored], rival.slates, predicted.ranks[rival.name], strict=True):
            assert rank == (slate.index(item) + 1 if item in slate else NOT_ON_SLATE)
            assert len(slate) <= K
