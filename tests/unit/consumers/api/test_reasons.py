"""`explain`: each item of an answer says what brought it, what its score is made of, and which rules are about it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from anabranch.http.messages.serving import AnsweredItem, ItemConditions, ItemReasons, RecentEvent
from anabranch.http.problems import HttpProblem
from anabranch.messages import Event, Rule
from anabranch.ranking.reasons.explain import FEATURE_GROUPS
from anabranch.ranking.rules.rule_book import numbered
from consumers.api.answers.queries import ItemsAnswer, SlateQuery
from consumers.api.routes.parameters import MAX_EXPLAINED
from consumers.api.routes.turns import Turns
from consumers.releases.updates import RuleUpdate
from tests.support.ranker_world import CATALOGUE, RankerWorld, purchases
from tests.support.replica_world import ReplicaProcess, set_neighbours
from tests.support.serving_api import Api, assert_is_problem

NEXT_DAY = Event(event_id="next day", user_id="u1", type="view", ts=100_000_000, item_id=CATALOGUE[1])
"""A session of its own, so that what the user had the day before is shown again."""
EVENTS = [*purchases(40), NEXT_DAY]


@pytest.fixture
def replica(world: RankerWorld) -> ReplicaProcess:
    world.rank(*EVENTS)
    replica = ReplicaProcess(world)
    replica.settle()
    return replica


def explained(replica: ReplicaProcess, limit: int = 10, **fields: object) -> ItemsAnswer:
    query = SlateQuery("u1", "for_you", limit, explain=True, **fields)  # type: ignore[arg-type]
    answer = replica.answer(query)
    assert isinstance(answer, ItemsAnswer)
    return answer


def reasons_of(item: AnsweredItem) -> ItemReasons:
    assert item.reasons is not None
    return item.reasons


def put_rule(replica: ReplicaProcess, **fields: object) -> None:
    rule = msgspec.convert({"rule_id": "r", **fields}, Rule)
    replica.releases.updates.append(RuleUpdate("r", numbered(rule, replica.store.items)))
    replica.settle()


def assert_adds_up(items: Sequence[AnsweredItem]) -> None:
    assert items
    for item in items:
        reasons = reasons_of(item)
        assert set(reasons.contributions) == set(FEATURE_GROUPS)
        total = reasons.base + sum(reasons.contributions.values()) + reasons.by_rules
        assert total == pytest.approx(item.score, abs=1e-3)


def test_the_items_are_those_of_the_answer_without_reasons(replica: ReplicaProcess) -> None:
    plain = replica.answer(SlateQuery("u1", "for_you", 10))
    answer = explained(replica)
    assert [msgspec.structs.replace(item, reasons=None) for item in answer.items] == plain.items
    assert all(item.reasons is None for item in plain.items)
    assert_adds_up(answer.items)


def test_a_page_of_a_slate_is_explained_as_the_whole(replica: ReplicaProcess) -> None:
    assert explained(replica, limit=3, offset=2).items == explained(replica, limit=5).items[2:]


def test_an_item_says_which_of_the_users_items_brought_it(replica: ReplicaProcess) -> None:
    set_neighbours(replica, CATALOGUE[1], {CATALOGUE[39]: 0.5})
    item = next(item for item in explained(replica, limit=20).items if item.item_id == CATALOGUE[39])
    neighbour = next(source for source in reasons_of(item).sources if source.source == "co_visits")
    assert (neighbour.item_id, neighbour.share, neighbour.ts) == (CATALOGUE[1], 0.5, NEXT_DAY.ts)


def test_an_item_of_the_users_own_says_how_many_events_and_when(replica: ReplicaProcess) -> None:
    times: dict[str, list[int]] = {}
    for event in EVENTS:
        if event.user_id == "u1" and event.item_id is not None:
            times.setdefault(event.item_id, []).append(event.ts)
    own = {item.item_id: item for item in explained(replica, limit=20).items if item.source == "own_events"}
    assert own
    for item_id, item in own.items():
        source = reasons_of(item).sources[0]
        assert (source.source, source.count, source.ts) == ("own_events", len(times[item_id]), max(times[item_id]))


def test_the_rule_that_moved_an_item_is_named_with_what_it_added(replica: ReplicaProcess) -> None:
    put_rule(replica, action="boost", items=[CATALOGUE[5]], factor=1000)
    answer = explained(replica, limit=20)
    boosted = next(item for item in answer.items if item.item_id == CATALOGUE[5])
    assert reasons_of(boosted).rules == ["r"]
    assert reasons_of(boosted).by_rules == pytest.approx(6.908, abs=1e-3)
    assert all(reasons_of(item).rules == [] for item in answer.items if item is not boosted)
    assert_adds_up(answer.items)


def test_items_under_conditions_and_after_events_of_the_request_are_explained_too(replica: ReplicaProcess) -> None:
    events = (RecentEvent(item_id=CATALOGUE[30], type="cart"),)
    excluded = tuple(CATALOGUE[:20])
    answer = explained(replica, conditions=ItemConditions(exclude=excluded), events=events)
    assert not {item.item_id for item in answer.items} & set(excluded)
    assert_adds_up(answer.items)
    assert all(reasons_of(item).sources for item in answer.items), "at least what `source` says"


def test_reasons_are_asked_for_by_a_parameter_or_a_field(replica: ReplicaProcess) -> None:
    api = Api(replica)
    path = "/v1/users/u1/recommendations"
    assert all("reasons" not in item for item in api.get(path).json()["items"])
    [item] = api.get(path, params={"explain": "true", "limit": "1"}).json()["items"]
    assert set(item["reasons"]) == {"sources", "base", "contributions", "by_rules", "rules", "rests"}
    body = {"user_id": "u1", "explain": True, "limit": 1}
    assert api.post("/v1/recommendations", body).json()["items"] == [item]


def test_no_more_items_are_explained_than_the_limit_says(replica: ReplicaProcess) -> None:
    api, most = Api(replica), MAX_EXPLAINED + 1
    parameters = {"explain": "true", "limit": str(most)}
    assert_is_problem(api.get("/v1/users/u1/recommendations", params=parameters), 400, str(MAX_EXPLAINED), "offset")
    assert_is_problem(api.post("/v1/recommendations", {"explain": True, "limit": most}), 400, str(MAX_EXPLAINED))


def test_requests_that_take_long_have_one_turn_after_the_other_and_one_too_many_is_refused() -> None:
    async def three() -> list[str]:
        turns, order = Turns(2, "requests"), []

        async def work(name: str) -> None:
            async with turns.take():
                order.append(f"{name} begins")
                await asyncio.sleep(0)
                order.append(f"{name} ends")

        first, second = asyncio.create_task(work("a")), asyncio.create_task(work("b"))
        await asyncio.sleep(0)
        with pytest.raises(HttpProblem, match="2 requests are worked on") as caught:
            await work("c")
        assert caught.value.status == 503
        await asyncio.gather(first, second)
        await work("d")
        return order

    assert asyncio.run(three()) == [f"{name} {what}" for name in "abd" for what in ("begins", "ends")]
