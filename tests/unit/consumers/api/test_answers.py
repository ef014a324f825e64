"""Answers on request are those of the stream, and asking changes nothing."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from anabranch.http.messages.serving import ItemConditions, RecentEvent
from anabranch.http.problems import HttpProblem
from anabranch.messages import Event
from anabranch.placements import EACH_CLASS, FOR_YOU, Placement
from consumers.api.answers.queries import (
    BoughtTogetherQuery,
    ItemsAnswer,
    RankQuery,
    SimilarQuery,
    TrendingQuery,
    UserQuery,
)
from tests.support.ranker_world import CATALOGUE, RankerWorld, partition_of, purchases
from tests.support.replica_world import ReplicaProcess, ids, set_neighbours, set_popularity, settled, slate_of

USERS = [f"u{number}" for number in range(4)]


def test_a_users_slates_are_those_that_the_ranker_published_last(world: RankerWorld) -> None:
    world.settings["placements"] = EACH_CLASS
    world.rank(*purchases(40))
    newest = {ranking.user_id: ranking for ranking in world.rankings()}
    replica = settled(world)
    for user_id, ranking in newest.items():
        for placement, slate in ranking.by_placement.items():
            answer = replica.answer(slate_of(user_id, placement=placement))
            assert ids(answer) == [item.item_id for item in slate], (user_id, placement)
            assert (answer.release, answer.as_of) == (ranking.release, ranking.cause.ts)
            assert answer.is_known
            assert [item.score for item in answer.items] == pytest.approx([item.score for item in slate], abs=1e-2)


def test_queries_that_arrive_together_are_answered_as_each_alone(world: RankerWorld) -> None:
    world.rank(*purchases(40))
    replica = settled(world)
    cart = (RecentEvent(item_id=CATALOGUE[7], type="cart"),)
    queries = [
        *(slate_of(user_id) for user_id in [*USERS, "nobody"]),
        slate_of("u1", limit=20),
        slate_of("u1", events=cart),
        slate_of(None, events=cart),
        slate_of("u1", conditions=ItemConditions(exclude=(CATALOGUE[3],))),
        RankQuery("u1", (CATALOGUE[3], CATALOGUE[5])),
    ]
    assert replica.answers(queries) == [replica.answer(query) for query in queries]


def test_a_page_of_a_slate_goes_on_where_the_one_before_it_ended(world: RankerWorld) -> None:
    world.rank(*purchases(40))
    replica = settled(world)
    whole = ids(replica.answer(slate_of("u1", limit=12)))
    assert len(whole) == len(set(whole)) == 12
    assert ids(replica.answer(slate_of("u1", limit=4, offset=4))) == ids(replica.answer(slate_of("u1", limit=8)))[4:]


def test_pages_of_a_placement_without_the_items_of_another_fit_together(world: RankerWorld) -> None:
    world.settings["placements"] = (FOR_YOU, Placement(name="others", without=("for_you",)))
    world.settings["slate_size"] = 3
    world.rank(*purchases(40))
    replica = settled(world)
    pages = [
        ids(replica.answer(slate_of("u1", limit=3, offset=offset, placement="for_you"))) for offset in (3, 6, 9, 12)
    ]
    whole = ids(replica.answer(slate_of("u1", limit=15, placement="for_you")))
    assert [item for page in pages for item in page] == whole[3:]


def test_events_of_a_request_go_on_with_the_session_of_the_newest_event(world: RankerWorld) -> None:
    """As the same event would on the stream, with the session id that the shop's events carry."""
    recent_ms = int(world.clock.clock().wall() * 1000) - 60_000
    before = [
        Event(event_id=f"v{n}", user_id="u1", type="view", ts=recent_ms + n, item_id=CATALOGUE[n], session_id="s1")
        for n in range(5)
    ]
    world.rank(*before)
    replica = settled(world)
    told = replica.answer(slate_of("u1", events=(RecentEvent(item_id=CATALOGUE[9], ts=recent_ms + 9),)))
    same = replica.answer(
        slate_of("u1", events=(RecentEvent(item_id=CATALOGUE[9], ts=recent_ms + 9, session_id="s1"),))
    )
    other = replica.answer(
        slate_of("u1", events=(RecentEvent(item_id=CATALOGUE[9], ts=recent_ms + 9, session_id="s2"),))
    )
    assert told == same
    assert told != other


def test_a_guest_gets_what_a_user_with_the_same_events_would_get_and_nothing_stays(world: RankerWorld) -> None:
    events = purchases(12, users=1)
    world.rank(*events)
    replica = settled(world)
    users = len(replica.store.users)
    told = tuple(RecentEvent(type=event.type, item_id=event.item_id, ts=event.ts) for event in events)
    answer = replica.answer(slate_of(None, events=told))
    assert ids(answer) == ids(replica.answer(slate_of("u0")))
    assert answer.is_known
    assert len(replica.store.users) == users


def test_events_of_a_request_count_for_its_answer_alone(world: RankerWorld) -> None:
    world.rank(*purchases(40))
    replica = settled(world)
    before, known = replica.answer(slate_of("u1")), replica.answer(UserQuery("u1"))
    cart = (RecentEvent(item_id=CATALOGUE[30], type="cart"), RecentEvent(item_id=CATALOGUE[31], type="cart"))
    assert ids(replica.answer(slate_of("u1", events=cart))) != ids(before)
    assert replica.answer(slate_of("u1")) == before
    assert replica.answer(UserQuery("u1")) == known


def test_named_items_come_back_in_the_users_order_with_those_that_cannot_be_ranked_last(world: RankerWorld) -> None:
    world.rank(*purchases(40))
    replica = settled(world)
    had = next(event.item_id for event in purchases(40) if event.user_id == "u1")
    assert had is not None
    named = ("in no catalogue", CATALOGUE[38], had, CATALOGUE[20])
    answer = replica.answer(RankQuery("u1", named))
    assert set(ids(answer)) == set(named)
    assert ids(answer)[-1] == "in no catalogue"
    assert answer.items[-1].score is None
    scores = [item.score for item in answer.items[:-1]]
    assert scores == sorted(scores, reverse=True)
    assert ids(replica.answer(RankQuery("u1", named[::-1]))) == ids(answer)


def test_similar_items_are_the_nearest_vectors_without_the_item_itself(world: RankerWorld) -> None:
    replica = settled(world)
    assert replica.replica.model.live is not None
    vectors = replica.replica.model.live.index.vectors(replica.store.items.rows(CATALOGUE))
    cosine = vectors @ vectors[3]
    order = [CATALOGUE[number] for number in np.argsort(-cosine, kind="stable") if number != 3]
    answer = replica.answer(SimilarQuery(CATALOGUE[3], 6))
    assert ids(answer) == order[:6]
    assert [item.score for item in answer.items] == pytest.approx(sorted(cosine, reverse=True)[1:7], rel=1e-5)


def test_items_bought_together_are_the_neighbours_with_their_shares(world: RankerWorld) -> None:
    replica = settled(world)
    set_neighbours(replica, CATALOGUE[3], {CATALOGUE[9]: 0.5, CATALOGUE[4]: 0.25})
    answer = replica.answer(BoughtTogetherQuery(CATALOGUE[3], 10))
    assert [(item.item_id, item.score) for item in answer.items] == [(CATALOGUE[9], 0.5), (CATALOGUE[4], 0.25)]
    without = ItemConditions(exclude=(CATALOGUE[9],))
    assert ids(replica.answer(BoughtTogetherQuery(CATALOGUE[3], 10, without))) == [CATALOGUE[4]]
    assert ids(replica.answer(BoughtTogetherQuery(CATALOGUE[39], 10))) == []


@pytest.mark.parametrize("query", [SimilarQuery("none", 5), BoughtTogetherQuery("none", 5)])
def test_an_item_that_is_not_there_is_a_problem(query: SimilarQuery, world: RankerWorld) -> None:
    with pytest.raises(HttpProblem, match="no item 'none'") as caught:
        settled(world).answer(query)
    assert caught.value.status == 404


def test_what_is_trending_is_ordered_by_popularity_under_the_conditions(world: RankerWorld) -> None:
    replica = settled(world)
    set_popularity(replica, CATALOGUE[10:16])
    assert ids(replica.answer(TrendingQuery(4))) == CATALOGUE[10:14]
    assert ids(replica.answer(TrendingQuery(4, ItemConditions(exclude=(CATALOGUE[10],))))) == CATALOGUE[11:15]


def test_what_is_known_of_a_user_is_the_history_and_nothing_of_others(world: RankerWorld) -> None:
    disliked = Event(event_id="d", user_id="u1", type="dislike", ts=9_000_000, item_id=CATALOGUE[17])
    unknown = Event(event_id="x", user_id="u1", type="view", ts=9_001_000, item_id="in no catalogue")
    world.rank(*purchases(12), disliked, unknown)
    answer = settled(world).answer(UserQuery("u1"))
    of_user = [event for event in purchases(12) if event.user_id == "u1"]
    assert [(event.item_id, event.ts) for event in answer.history[1:]] == [
        (event.item_id, event.ts) for event in reversed(of_user)
    ]
    assert answer.history[0].item_id.startswith("#")
    assert answer.disliked == [CATALOGUE[17]]
    assert answer.last_event_ts == 9_001_000


def test_a_user_in_another_partition_than_kafkas_partitioner_would_choose_is_found(world: RankerWorld) -> None:
    world.rank(*purchases(8))
    replica = settled(world)
    assert all(replica.answer(UserQuery(user_id)).is_known for user_id in USERS)
    assert {partition_of(user_id) for user_id in USERS} == {0, 1}


def test_before_the_states_are_restored_every_query_is_answered_with_503(world: RankerWorld) -> None:
    replica = ReplicaProcess(world, release=None)
    for query in (slate_of("u1"), TrendingQuery(5), UserQuery("u1")):
        with pytest.raises(HttpProblem, match="waiting for a live release") as caught:
            replica.answer(query)
        assert caught.value.status == 503
        assert "Retry-After" in caught.value.headers


def test_a_query_that_fails_fails_no_other(world: RankerWorld, caplog: pytest.LogCaptureFixture) -> None:
    world.rank(*purchases(8))
    replica = settled(world)
    defect = slate_of("u1", placement="there is none")
    outcomes = replica.answering.answer([slate_of("u1"), defect, slate_of("u2")])
    assert isinstance(outcomes[1], HttpProblem) and outcomes[1].status == 500
    assert [isinstance(outcomes[n], ItemsAnswer) for n in (0, 2)] == [True, True]
    assert "a query failed" in caplog.text
    assert list(chain.from_iterable(ids(outcomes[n]) for n in (0, 2)))  # type: ignore[arg-type]
