from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.co_visit.scored_items import top_items
from models.evaluation.baselines import Baseline, PersonalFrequency, Popularity
from models.pipeline.baselines import BASELINES, make_baselines
from models.pipeline.presets import preset

DAY = 24 * 3600 * 1000
VISITS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 5)), max_size=150)
EXCLUDED = st.sets(st.integers(0, 30), max_size=20)


def recount(visits: list[tuple[int, int, int]], half_life: int) -> dict[int, float]:
    """Decayed counts from scratch: (item, ts) pairs, weighted at the first one's time."""
    scores: dict[int, float] = {}
    for _, item, ts in visits:
        scores[item] = scores.get(item, 0.0) + 2.0 ** ((ts - visits[0][2]) / half_life)
    return scores


def in_time(steps: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """(user, item, ts) from (user, item, days since the visit before)."""
    ts, visits = 0, []
    for user, item, days in steps:
        ts += days * DAY
        visits.append((user, item, ts))
    return visits


def replayed(baseline: Baseline, visits: list[tuple[int, int, int]]) -> Baseline:
    for user, item, ts in visits:
        baseline.learn(user, item, ts)
    return baseline


@settings(max_examples=100, deadline=None)
@given(VISITS, EXCLUDED, st.integers(1, 8))
def test_cached_popularity_equals_popularity_counted_again(
    steps: list[tuple[int, int, int]], exclude: set[int], k: int
) -> None:
    visits = in_time(steps)
    popularity = replayed(Popularity(half_life_ms=7 * DAY, cached=10), visits)
    allowed = {item: score for item, score in recount(visits, 7 * DAY).items() if item not in exclude}
    assert popularity.scored(0).top(k, exclude) == top_items(allowed, k)


@settings(max_examples=100, deadline=None)
@given(VISITS, EXCLUDED, st.integers(1, 8))
def test_own_counts_are_the_user_s_visits_recounted(
    steps: list[tuple[int, int, int]], exclude: set[int], k: int
) -> None:
    visits = in_time(steps)
    own = replayed(PersonalFrequency(half_life_ms=7 * DAY), visits)
    mine = [visit for visit in visits if visit[0] == 1]
    scores = {item: score for item, score in recount(mine, 7 * DAY).items() if item not in exclude}
    expected = top_items(scores, k)
    assert [scores[item] for item in own.scored(1).top(k, exclude)] == pytest.approx(
        [scores[item] for item in expected]
    )


def test_a_new_favourite_overtakes_an_old_one_in_time() -> None:
    popularity = Popularity(half_life_ms=DAY)
    for _ in range(3):
        popularity.learn(0, item=1, ts=0)
    popularity.learn(0, item=2, ts=DAY)
    assert popularity.scored(0).top(2) == [1, 2]
    popularity.learn(0, item=2, ts=2 * DAY)
    assert popularity.scored(0).top(2) == [2, 1]


def test_equal_scores_go_to_the_lower_number() -> None:
    popularity = Popularity()
    for item in (5, 3, 4):
        popularity.learn(0, item, ts=0)
    assert popularity.scored(0).top(3) == [3, 4, 5]


@pytest.mark.parametrize("baseline", make_baselines(preset("baskets")), ids=lambda baseline: baseline.name)
def test_every_baseline_meets_the_contract(baseline: Baseline) -> None:
    assert baseline.scored(0).top(5) == []
    for user in range(3):  # a pair counts once three users made it
        for at, item in enumerate((1, 2, 3, 1)):
            baseline.learn(user, item, ts=at, session=at // 2)
    baseline.learn(0, -1, ts=9, session=9)  # a search
    slate = baseline.scored(0).top(5, exclude={2})
    assert slate
    assert 2 not in slate
    assert len(set(slate)) == len(slate)
    assert baseline.scored(0).top(1, exclude={2}) == slate[:1]
    assert baseline.scored(0).top(5, exclude={2}) == slate


def test_own_counts_know_nothing_new() -> None:
    own = PersonalFrequency()
    own.learn(0, item=1, ts=0)
    assert own.scored(0).top(20) == [1]
    assert own.scored(1).top(20) == []


@settings(max_examples=50, deadline=None)
@given(VISITS, EXCLUDED, EXCLUDED, st.integers(1, 8), st.sampled_from(sorted(BASELINES)))
def test_a_slate_among_some_items_is_the_full_order_without_the_others(
    steps: list[tuple[int, int, int]], exclude: set[int], among: set[int], k: int, name: str
) -> None:
    baseline = replayed(make_baselines(preset("baskets"), names=[name])[0], in_time(steps))
    order = baseline.scored(1).top(1000, exclude)
    assert baseline.scored(1).top(k, exclude, among) == [item for item in order if item in among][:k]
