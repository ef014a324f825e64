from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.co_visit_rule import WEEK_MS, CoVisitRule
from anabranch.co_visit_scoring import CoVisitScoring
from anabranch.messages import UNKNOWN_REPEAT_RATE, Event
from models.co_visit.model import CoVisitModel
from models.co_visit.scored_items import top_items
from models.co_visit.text_neighbours import text_prior
from models.data.event_log import DAY_MS, NONE, EventColumns, EventLog
from models.data.unusual_users import MIN_EVENTS

PLAIN = CoVisitRule(damping=0, half_life_ms=WEEK_MS, min_users=1)
BREAD, MILK, SOUP, BEER = range(4)
ANN, BOB = range(2)


def shares(co_visit: CoVisitModel, item: int) -> dict[int, float]:
    table = co_visit.table()
    row = table.item.tolist().index(item)
    present = table.neighbours[row] >= 0
    return dict(zip(table.neighbours[row][present].tolist(), table.share[row][present].tolist(), strict=True))


def test_items_of_one_session_are_neighbours_both_ways() -> None:
    co_visit = CoVisitModel(PLAIN)
    for item in (BREAD, MILK, SOUP):
        co_visit.learn(ANN, item, ts=0, session=1)
    assert shares(co_visit, BREAD) == {MILK: 0.5, SOUP: 0.5}
    assert shares(co_visit, SOUP) == {BREAD: 0.5, MILK: 0.5}


def test_a_pair_that_spans_two_sessions_counts_like_any() -> None:
    co_visit = CoVisitModel(PLAIN)
    for item, session in ((BREAD, 1), (MILK, 1), (SOUP, 2)):
        co_visit.learn(ANN, item, ts=0, session=session)
    assert shares(co_visit, BREAD) == {MILK: 0.5, SOUP: 0.5}


def test_a_pair_that_spans_two_sessions_weighs_as_the_rule_says() -> None:
    co_visit = CoVisitModel(replace(PLAIN, across=0.25))
    for item, session in ((BREAD, 1), (MILK, 1), (SOUP, 2), (BEER, 2)):
        co_visit.learn(ANN, item, ts=0, session=session)
    assert shares(co_visit, SOUP) == pytest.approx({BEER: 1 / 1.5, BREAD: 0.25 / 1.5, MILK: 0.25 / 1.5})


def test_without_weight_for_pairs_of_two_sessions_only_those_of_one_session_count() -> None:
    co_visit = CoVisitModel(replace(PLAIN, across=0.0))
    for item, session in ((BREAD, 1), (MILK, 1), (SOUP, 2), (BEER, 2)):
        co_visit.learn(ANN, item, ts=0, session=session)
    assert shares(co_visit, MILK) == {BREAD: 1}
    assert shares(co_visit, SOUP) == {BEER: 1}


def test_an_item_is_never_its_own_neighbour() -> None:
    co_visit = CoVisitModel(PLAIN)
    for item in (BREAD, BREAD, MILK, BREAD):
        co_visit.learn(ANN, item, ts=0, session=1)
    assert shares(co_visit, BREAD) == {MILK: 1.0}


TEXTS = text_prior(np.eye(8, dtype=np.float32)[[0, 0, 1, 2]] + np.eye(8, dtype=np.float32)[[3, 4, 5, 6]] / 4)
"""BREAD and MILK have similar texts."""


def test_a_similar_text_counts_as_the_priors_co_visits() -> None:
    co_visit = CoVisitModel(replace(PLAIN, text_prior=1.0), texts=TEXTS)
    for user in range(3):
        co_visit.learn(user, BREAD, ts=0, session=user)
        co_visit.learn(user, SOUP, ts=0, session=user)
    assert shares(co_visit, BREAD) == {SOUP: pytest.approx(3 / 4), MILK: pytest.approx(1 / 4)}


def test_without_a_prior_texts_have_no_effect() -> None:
    co_visit = CoVisitModel(PLAIN, texts=TEXTS)
    for item in (BREAD, SOUP):
        co_visit.learn(ANN, item, ts=0, session=1)
    assert shares(co_visit, BREAD) == {SOUP: 1.0}


def test_the_prior_has_the_weight_of_the_newest_visits() -> None:
    co_visit = CoVisitModel(replace(PLAIN, text_prior=1.0), texts=TEXTS)
    for session, ts in enumerate([0, 2 * WEEK_MS]):
        co_visit.learn(session, BREAD, ts, session)
        co_visit.learn(session, SOUP, ts, session)
    assert shares(co_visit, BREAD) == {SOUP: pytest.approx(1.25 / 2.25), MILK: pytest.approx(1 / 2.25)}


def test_two_users_make_no_pair() -> None:
    co_visit = CoVisitModel(PLAIN)
    co_visit.learn(ANN, BREAD, ts=0, session=1)
    co_visit.learn(BOB, MILK, ts=0, session=1)
    assert shares(co_visit, BREAD) == shares(co_visit, MILK) == {}


def test_a_pair_weighs_half_as_much_a_half_life_later() -> None:
    co_visit = CoVisitModel(PLAIN)
    for session, (ts, other) in enumerate([(0, MILK), (WEEK_MS, SOUP)]):
        co_visit.learn(session, BREAD, ts, session)
        co_visit.learn(session, other, ts, session)
    assert shares(co_visit, BREAD) == {MILK: pytest.approx(1 / 3), SOUP: pytest.approx(2 / 3)}


def test_backward_pairs_have_the_weight_of_the_rule() -> None:
    co_visit = CoVisitModel(replace(PLAIN, backward=0.25))
    for item in (BREAD, MILK, SOUP):
        co_visit.learn(ANN, item, ts=0, session=1)
    assert shares(co_visit, MILK) == {SOUP: pytest.approx(1 / 1.25), BREAD: pytest.approx(0.25 / 1.25)}


def test_the_weight_of_a_gap_follows_the_rule() -> None:
    co_visit = CoVisitModel(replace(PLAIN, gap_power=1.0))
    for item in (BREAD, MILK, SOUP):
        co_visit.learn(ANN, item, ts=0, session=1)
    assert shares(co_visit, BREAD) == {MILK: pytest.approx(2 / 3), SOUP: pytest.approx(1 / 3)}


def test_only_the_window_before_an_event_is_paired_with_it() -> None:
    co_visit = CoVisitModel(replace(PLAIN, window=1))
    for item in (BREAD, MILK, SOUP):
        co_visit.learn(ANN, item, ts=0, session=1)
    assert set(shares(co_visit, SOUP)) == {MILK}


def test_damping_lowers_the_share_of_one_chance_pair() -> None:
    co_visit = CoVisitModel(replace(PLAIN, damping=3))
    co_visit.learn(ANN, BREAD, ts=0, session=1)
    co_visit.learn(ANN, MILK, ts=0, session=1)
    assert shares(co_visit, BREAD) == {MILK: 0.25}


def test_a_row_keeps_its_strongest_neighbours_within_the_bound() -> None:
    co_visit = CoVisitModel(replace(PLAIN, row_bound=2, window=1))
    for session, other in enumerate([1, 1, 1, 2, 2, 3, 4, 5, 6]):
        co_visit.learn(session, BREAD, ts=0, session=session)
        co_visit.learn(session, other, ts=0, session=session)
    remaining = shares(co_visit, BREAD)
    assert len(remaining) <= 4
    assert [item for item, _ in sorted(remaining.items(), key=lambda row: -row[1])[:2]] == [1, 2]
    assert sum(remaining.values()) < 1, "shares are of all co-visits, also of those forgotten"


def test_a_search_pairs_with_nothing() -> None:
    co_visit = CoVisitModel(PLAIN)
    for item in (BREAD, NONE, MILK):
        co_visit.learn(ANN, item, ts=0, session=1)
    assert shares(co_visit, BREAD) == {MILK: 1.0}
    assert co_visit.scored(ANN).top(5) == [BREAD, MILK]


def test_the_table_has_popularity_first_seen_and_repeat_rate() -> None:
    co_visit = CoVisitModel(replace(PLAIN, repeat_prior=0))
    visits = [(ANN, BREAD, 5, 1), (BOB, BREAD, 6, 2), (ANN, MILK, 7, 1), (ANN, BREAD, 7, 1), (BOB, BREAD, 8, 3)]
    for user, item, ts, session in visits:
        co_visit.learn(user, item, ts, session)
    table = co_visit.table(width=3)
    assert table.neighbours.shape == table.share.shape == (2, 3)
    np.testing.assert_allclose(table.popularity, [4 / 5, 1 / 5], rtol=1e-4)
    assert table.first_seen.tolist() == [5, 7]
    assert table.repeat_rate.tolist() == [0.5, 0], "Ann's second bread is of the same session, Bob's is not"


def visit_together(co_visit: CoVisitModel, users: int, *items: int, first_user: int = 0, from_ms: int = 0) -> None:
    """So many users visit the items, each in a session of their own."""
    for user in range(first_user, first_user + users):
        for item in items:
            co_visit.learn(user, item, ts=from_ms + user, session=user)


def test_a_bot_does_not_outweigh_the_neighbours_that_two_thousand_people_made() -> None:
    """With 200 visits to two items in turn, it had the first place with nine times the share of any other."""
    co_visit = CoVisitModel()
    random = np.random.default_rng(0)
    for user in range(2000):
        visit_together(co_visit, 1, BREAD, *random.choice(np.arange(10, 110), 3, replace=False), first_user=user)
    for n in range(200):
        co_visit.learn(9999, (BREAD, BEER)[n % 2], ts=2000 + n, session=9999)
    with_bot = shares(co_visit, BREAD)
    assert BEER not in with_bot, "it is not a neighbour at all, for one user made it"
    visit_together(co_visit, 2, BREAD, BEER, first_user=3000)
    table = co_visit.table(width=200)
    row = table.item.tolist().index(BREAD)
    neighbours = table.neighbours[row].tolist()
    assert neighbours.index(BEER) > 90, "with two people more it is the last of all"


def test_a_users_visits_of_an_item_count_no_more_than_the_cap_in_its_popularity() -> None:
    co_visit = CoVisitModel(replace(PLAIN, user_cap=2.0))
    for _ in range(50):
        co_visit.learn(ANN, BREAD, ts=0, session=1)
    visit_together(co_visit, 8, MILK, first_user=1)
    np.testing.assert_allclose(co_visit.table().popularity, [0.2, 0.8])


def test_what_a_user_may_add_comes_back_as_earlier_visits_decay() -> None:
    co_visit = CoVisitModel(replace(PLAIN, user_cap=1.0))
    for ts in (0, 0, WEEK_MS):
        co_visit.learn(ANN, BREAD, ts=ts, session=1)
    co_visit.learn(BOB, MILK, ts=WEEK_MS, session=2)
    np.testing.assert_allclose(co_visit.table().popularity, [0.5, 0.5])


@pytest.mark.parametrize(("users", "neighbours"), [(1, {}), (2, {}), (3, {MILK: 0.25}), (70, {MILK: 0.25})])
def test_a_pair_is_a_neighbour_only_once_three_people_made_it(users: int, neighbours: dict[int, float]) -> None:
    """Otherwise, who sees bread and asks for its neighbours learns what a person had with it."""
    co_visit = CoVisitModel()
    visit_together(co_visit, users, BREAD, MILK)
    assert shares(co_visit, BREAD) == neighbours
    assert set(co_visit.scored(0).top(5)) == ({BREAD, MILK} if neighbours else set()), "the baseline knows no more"


def test_the_neighbours_that_a_text_gives_need_no_users() -> None:
    co_visit = CoVisitModel(CoVisitRule(text_prior=1.0), texts=TEXTS)
    visit_together(co_visit, 1, BREAD, SOUP)
    assert set(shares(co_visit, BREAD)) == {MILK}


def test_of_an_item_that_fewer_than_three_people_visited_only_the_day_is_known() -> None:
    co_visit = CoVisitModel()
    for user, session in ((0, 1), (1, 2), (1, 3)):
        co_visit.learn(user, BREAD, ts=DAY_MS + 5, session=session)
    visit_together(co_visit, 3, MILK, first_user=7, from_ms=DAY_MS)
    table = co_visit.table()
    assert table.item.tolist() == [BREAD, MILK]
    assert table.popularity[0] == 0 and table.popularity[1] > 0
    assert table.repeat_rate[0] == np.float32(UNKNOWN_REPEAT_RATE)
    assert table.first_seen.tolist() == [DAY_MS, DAY_MS + 7]


def test_an_unusual_user_leaves_no_trace_and_is_counted() -> None:
    """But is recommended to, as anybody else."""
    people = [(user, item, user) for user in range(40) for item in (BREAD, MILK)]
    bot = [(99, 100 + n % 300, 1) for n in range(MIN_EVENTS + 1)] + [(99, BREAD, 1)]

    def log(visits: list[tuple[int, int, int]]) -> EventLog:
        columns = np.array([(user, item, 2, n, session) for n, (user, item, session) in enumerate(visits)]).T
        return EventLog.from_columns(EventColumns(*columns), user_ids=("",) * 100, item_ids=("",) * 400)

    without, with_bot = CoVisitModel().fit(log(people)), CoVisitModel().fit(log(people + bot))
    assert (without.unusual_users, with_bot.unusual_users) == (frozenset(), {99})
    for name in ("item", "neighbours", "share", "popularity", "first_seen", "repeat_rate"):
        np.testing.assert_array_equal(getattr(without.table(), name), getattr(with_bot.table(), name))
    assert with_bot.scored(99).top(5) == [MILK]


def test_the_repeat_rate_of_an_item_with_few_users_is_near_the_usual() -> None:
    co_visit = CoVisitModel(PLAIN)
    co_visit.learn(ANN, BREAD, ts=0, session=1)
    assert co_visit.table().repeat_rate[0] == pytest.approx(5 * UNKNOWN_REPEAT_RATE / 6)


def test_a_table_without_events_about_items_has_no_rows() -> None:
    co_visit = CoVisitModel()
    co_visit.learn(ANN, NONE, ts=0)
    table = co_visit.table(width=3)
    assert (table.item.shape, table.neighbours.shape, table.popularity.shape) == ((0,), (0, 3), (0,))


def test_an_unknown_user_has_an_empty_slate() -> None:
    assert CoVisitModel().scored(ANN).top(5) == []


def test_fitting_a_log_equals_learning_its_events_one_by_one() -> None:
    log = EventLog.from_events(
        Event(event_id=str(n), user_id="ann", type="purchase", item_id=str(n % 7), ts=n, session_id=str(n // 9))
        for n in range(1500)
    )
    progress: list[int] = []
    fitted = CoVisitModel().fit(log, progress.append)
    one_by_one = CoVisitModel()
    for n in range(1500):
        one_by_one.learn(0, n % 7, n, n // 9)
    np.testing.assert_array_equal(fitted.table().share, one_by_one.table().share)
    assert progress == [1000, 500]


@settings(max_examples=60, deadline=None)
@given(
    visits=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=80),
    exclude=st.sets(st.integers(0, 14), max_size=5),
    k=st.integers(1, 6),
)
def test_a_slate_sums_the_shares_of_the_newest_items(
    visits: list[tuple[int, int, int]], exclude: set[int], k: int
) -> None:
    scoring = CoVisitScoring(recent=4, decay=0.7, own_share=0.3)
    co_visit = CoVisitModel(CoVisitRule(min_users=2), scoring)
    newest: list[int] = []
    for ts, (user, item, session) in enumerate(visits):
        co_visit.learn(user, item, ts, session)
        if user == ANN:
            newest.insert(0, item)
    table = co_visit.table(width=20)
    rows = {
        item: dict(zip(neighbours, share, strict=True))
        for item, neighbours, share in zip(
            table.item.tolist(), table.neighbours.tolist(), table.share.tolist(), strict=True
        )
    }
    scores: dict[int, float] = {}
    for back, item in enumerate(newest[:4]):
        for neighbour, share in [*rows[item].items(), (item, 0.3)]:
            if neighbour >= 0 and neighbour not in exclude:
                scores[neighbour] = scores.get(neighbour, 0.0) + 0.7**back * share
    slate = co_visit.scored(ANN).top(k, exclude)
    assert len(slate) == min(k, len(scores))
    # float32 in the table: compare what the places are worth, not the places
    expected = [scores[item] for item in top_items(scores, k)]
    np.testing.assert_allclose([scores[item] for item in slate], expected, rtol=1e-5)
    assert co_visit.scored(ANN).top(k, exclude) == slate, "a slate leaves nothing behind"
