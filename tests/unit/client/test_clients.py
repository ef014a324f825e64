"""The clients against the applications of both servers, on a real port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anabranch.client.collector import BATCH_EVENTS, CollectorClient
from anabranch.client.errors import RequestRefused, ServerUnavailable
from anabranch.client.recommender import RecommenderClient
from anabranch.client.retries import RetryPolicy
from anabranch.http import api_keys, key_file
from anabranch.http.api_keys import Scope
from anabranch.http.key_file import KeyFile
from anabranch.http.messages.serving import ConditionParameters, ItemConditions, ItemReasons, RecentEvent
from anabranch.messages import Event
from producers.collector.forms.limits import CollectorLimits
from tests.support.collector_world import World
from tests.support.ranker_world import CATALOGUE
from tests.support.served_app import served
from tests.support.serving_api import Api

ONCE = RetryPolicy(attempts=1)
LIMITS = CollectorLimits(body_bytes=1_048_576, event_bytes=32_768, events=1_000)


def event(number: int, user_id: str = "u1") -> Event:
    return Event(event_id=f"e{number}", user_id=user_id, type="view", ts=number, item_id="i")


def invalid(number: int) -> Event:
    """The client does not check what the collector checks."""
    return Event(event_id=f"e{number}", user_id="u" * 600, type="view", ts=number, item_id="i")


def new_key(folder: Path, scope: Scope) -> tuple[str, KeyFile]:
    text, key = api_keys.create("shop", [scope])
    key_file.add(folder / "keys.json", key)
    return text, KeyFile(folder / "keys.json")


@pytest.fixture
def recommender(api: Api) -> Iterator[RecommenderClient]:
    with served(api.app) as url, RecommenderClient(url) as client:
        yield client


# --- events -----------------------------------------------------------------------------------------------------------


def test_events_are_published_and_the_refused_ones_are_named(tmp_path: Path) -> None:
    key, keys = new_key(tmp_path, "events:write")
    world = World(keys, limits=LIMITS)
    with served(world.app) as url, CollectorClient(url, key) as collector:
        answer = collector.send([event(0), invalid(1), event(2)])
    assert (answer.taken, [(refusal.index, refusal.field) for refusal in answer.refused]) == (2, [(1, "user_id")])
    assert world.publisher.events == [event(0), event(2)]


def test_if_every_event_is_refused_the_answer_says_why() -> None:
    with served(World(limits=LIMITS).app) as url, CollectorClient(url) as collector:
        answer = collector.send([invalid(0)])
    assert (answer.taken, [refusal.field for refusal in answer.refused]) == (0, ["user_id"])


def test_batches_are_sent_in_order_and_refusals_have_the_index_of_all_events() -> None:
    world = World(limits=LIMITS)
    wrong = BATCH_EVENTS + 3
    events = [invalid(number) if number == wrong else event(number) for number in range(2 * BATCH_EVENTS + 1)]
    with served(world.app) as url, CollectorClient(url) as collector:
        answer = collector.send_batches(iter(events))
    assert (answer.taken, [refusal.index for refusal in answer.refused]) == (len(events) - 1, [wrong])
    assert world.publisher.events == [event for event in events if event is not events[wrong]]
    assert world.value("anabranch_collect_requests_total", status="202") == 3


def test_no_event_is_no_request() -> None:
    with CollectorClient("http://127.0.0.1:1", retries=ONCE) as collector:
        assert collector.send_batches([]).taken == 0


def test_large_events_make_smaller_batches() -> None:
    world = World(limits=LIMITS)
    large = [
        Event(event_id=f"e{number}", user_id="u", type="search", ts=1, query="q" * 4_000, context={"text": "x" * 4_000})
        for number in range(200)
    ]
    with served(world.app) as url, CollectorClient(url) as collector:
        assert collector.send_batches(large).taken == 200


def test_what_the_broker_does_not_acknowledge_is_an_error_after_which_a_retry_helps() -> None:
    world = World(limits=LIMITS)
    world.publisher.broken = True
    with (
        served(world.app) as url,
        CollectorClient(url, retries=ONCE) as collector,
        pytest.raises(ServerUnavailable, match="same event_ids"),
    ):
        collector.send([event(0)])


def test_a_key_without_the_scope_is_refused_with_the_remedy(tmp_path: Path) -> None:
    key, keys = new_key(tmp_path, "rankings:read")
    with (
        served(World(keys).app) as url,
        CollectorClient(url, key) as collector,
        pytest.raises(RequestRefused, match="does not have the scope events:write"),
    ):
        collector.send([event(0)])


# --- recommendations --------------------------------------------------------------------------------------------------


def test_a_users_slate_and_its_pages(recommender: RecommenderClient) -> None:
    whole = recommender.recommendations("u1", placement="for_you", limit=4)
    assert (whole.user_id, whole.placement, whole.is_known, whole.release) == ("u1", "for_you", True, "r1")
    assert len(whole.items) == 4 and whole.items[0].score is not None
    assert recommender.recommendations("u1", limit=2, offset=2).items == whole.items[2:]


@pytest.mark.parametrize("user_id", ["a/b é", "..", ".", "a?b#c", "100 %", "u;1&2"])
def test_ids_may_have_any_characters(user_id: str, recommender: RecommenderClient) -> None:
    assert recommender.recommendations(user_id).user_id == user_id
    assert recommender.user(user_id).user_id == user_id


def test_reasons_come_where_they_are_asked_for(recommender: RecommenderClient) -> None:
    for explain in (False, True):
        for answer in (
            recommender.recommendations("u1", limit=2, explain=explain),
            recommender.recommendations_after([RecentEvent(item_id=CATALOGUE[4])], limit=2, explain=explain),
        ):
            assert [isinstance(item.reasons, ItemReasons) for item in answer.items] == [explain] * 2


def test_a_guests_events_and_a_list_to_rank(recommender: RecommenderClient) -> None:
    guest = recommender.recommendations_after([RecentEvent(item_id=CATALOGUE[4])], limit=3)
    assert (guest.user_id, guest.is_known, len(guest.items)) == (None, True, 3)
    ranked = recommender.rank(CATALOGUE[:3], "u1", [RecentEvent(type="cart", item_id=CATALOGUE[4])])
    assert {item.item_id for item in ranked.items} == set(CATALOGUE[:3])


def test_items_of_an_item_and_the_popular_ones_under_conditions(recommender: RecommenderClient) -> None:
    first, *_ = (item.item_id for item in recommender.similar(CATALOGUE[0], limit=2).items)
    others = recommender.similar(CATALOGUE[0], conditions=ItemConditions(exclude=(first,))).items
    assert others and first not in [item.item_id for item in others]
    assert recommender.trending(limit=3).release == "r1"
    soups = ItemConditions(categories=(["FOOD", "SOUP"],), brands=("Acme", "Best"), price_from=0.5)
    for related in (recommender.similar, recommender.bought_together):
        assert related(CATALOGUE[0], limit=2).item_id == CATALOGUE[0]
        assert related(CATALOGUE[0], conditions=soups).items == []


def test_what_is_known_of_a_user(recommender: RecommenderClient) -> None:
    known = recommender.user("u1")
    assert known.is_known and known.history[0].type == "purchase"
    assert not recommender.user("nobody").is_known


def test_an_item_that_is_not_there_and_a_placement_that_is_not_are_errors(recommender: RecommenderClient) -> None:
    with pytest.raises(RequestRefused, match="no item 'none'") as e:
        recommender.similar("none")
    assert e.value.problem is not None and e.value.problem.status == 404
    with pytest.raises(RequestRefused, match="no placement 'home'; there are: for_you"):
        recommender.recommendations("u1", placement="home")


@pytest.mark.parametrize(
    "conditions",
    [
        ItemConditions(),
        ItemConditions(
            categories=(["A", "B"], ["C"]), brands=("x",), domains=("y", "z"), price_from=1.5, price_below=2
        ),
        ItemConditions(exclude=("i1", "i2")),
    ],
)
def test_conditions_as_parameters_are_the_same_conditions(conditions: ItemConditions) -> None:
    assert ConditionParameters.of(conditions).conditions == conditions


def test_a_category_that_no_parameter_can_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="in a body"):
        ConditionParameters.of(ItemConditions(categories=(["A > B"],)))


def test_the_example_of_the_documentation_runs(api: Api) -> None:
    document = (Path(__file__).parents[3] / "docs" / "api.md").read_text("utf-8")
    example = document.partition("## A client in Python")[2].partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {"WRITE_KEY": None, "READ_KEY": None}
    with served(World(limits=LIMITS).app) as collector, served(api.app) as recommender:
        example = example.replace("http://127.0.0.1:8000", collector).replace("http://127.0.0.1:8001", recommender)
        exec(example, names)
        names["collector"].close()
        names["recommender"].close()
    assert names["answer"].taken == 1
    assert {item.item_id for item in names["best_first"]} == {"i7", "i42", "i9"}
