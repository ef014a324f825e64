"""What becomes of a request of GA4's Measurement Protocol, without HTTP."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from anabranch.http.problems import HttpProblem
from anabranch.messages import Event, Identity
from anabranch.own_event_types import OwnEventTypes
from producers.collector.forms.form import RequestContent
from producers.collector.forms.limits import CollectorLimits
from producers.collector.forms.shop_names import ShopNames
from producers.collector.ga4.content import Ga4Reader, Ga4Request
from producers.identity_record import IdentifiedVisitor

LIMITS = CollectorLimits(body_bytes=100_000, event_bytes=2_000, events=300)
NOW_MS = 1_800_000_000_000
NAMES = ShopNames(["product_id", "item_id"], OwnEventTypes({"add_to_wishlist": "like", "cart_opened": "impression"}))
MICROS = 1_767_225_600_000_999


def ga4_event(name: str, *items: Any, **params: Any) -> dict[str, Any]:
    return {"name": name, "params": params | ({"items": list(items)} if items else {})}


def read(*events: Any, received_ms: int = NOW_MS, limits: CollectorLimits = LIMITS, **fields: Any) -> RequestContent:
    body = {"client_id": "c1", "timestamp_micros": MICROS} | fields | {"events": events}
    request = msgspec.json.decode(msgspec.json.encode(body), type=Ga4Request)
    return Ga4Reader(request, NAMES, limits, received_ms).read()


def event_of(*events: Any, **fields: Any) -> Event:
    content = read(*events, **fields)
    assert not content.refused and not content.ignored
    [event] = content.events
    return event


def refused_field(*events: Any, **fields: Any) -> str | None:
    content = read(*events, **fields)
    assert not content.events and not content.ignored and not content.identities
    [refusal] = content.refused
    assert refusal.reason and refusal.remedy
    return refusal.field


ITEM = {"item_id": "i1", "item_name": "Soup", "price": 1.5, "quantity": 2}


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("view_item", "view"),
        ("select_item", "click"),
        ("add_to_cart", "cart"),
        ("remove_from_cart", "remove_from_cart"),
        ("purchase", "purchase"),
        ("refund", "refund"),
    ],
)
def test_an_event_of_items_is_an_event_for_each(name: str, type: Any) -> None:
    params = {"transaction_id": "t1", "session_id": 17, "ranking_id": "r1", "currency": "EUR"}
    content = read(ga4_event(name, ITEM, {"item_id": 2}, **params))
    first, second = content.events
    assert first == Event(
        event_id=first.event_id,
        user_id="c1",
        type=type,
        ts=MICROS // 1000,
        item_id="i1",
        session_id="17",
        quantity=2,
        price=1.5,
        order_id="t1",
        ranking_id="r1",
    )
    assert (second.item_id, second.quantity, second.order_id) == ("2", None, "t1")
    assert first.event_id != second.event_id


def test_a_list_is_one_impression_and_a_search_has_its_term() -> None:
    event = event_of(ga4_event("view_item_list", {"item_id": "b"}, {"item_id": "a"}))
    assert (event.type, event.shown, event.item_id) == ("impression", ("b", "a"), None)
    event = event_of(ga4_event("search", search_term="soup"))
    assert (event.type, event.query) == ("search", "soup")


@pytest.mark.parametrize(
    "event",
    [
        ga4_event("page_view"),
        ga4_event("begin_checkout", ITEM),
        ga4_event("View_Item", ITEM),
        ga4_event("refund"),
        ga4_event("view_item_list"),
    ],
)
def test_an_event_that_says_nothing_of_an_item_is_ignored(event: dict[str, Any]) -> None:
    content = read(event)
    assert not content.events and not content.refused
    assert [ignored.index for ignored in content.ignored] == [0]


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (ga4_event("view_item"), "events[0].params.items"),
        (ga4_event("purchase", transaction_id="t"), "events[0].params.items"),
        ({"name": "view_item", "params": {"items": {}}}, "events[0].params.items"),
        ({"name": "view_item", "params": 3}, "events[0]"),
        ({"name": "view_item"}, "events[0].params.items"),
        ({"params": {}}, "events[0]"),
        (3, "events[0]"),
        (ga4_event("view_item", {"item_name": "Soup"}), "events[0].params.items[0].product_id"),
        (ga4_event("view_item", 3), "events[0].params.items[0]"),
        (ga4_event("view_item", ITEM | {"item_id": ""}), "events[0].params.items[0].item_id"),
        (ga4_event("view_item", ITEM | {"price": "free"}), "events[0].params.items[0].price"),
        (ga4_event("view_item", ITEM | {"quantity": -1}), "events[0].params.items[0].quantity"),
        (ga4_event("view_item", ITEM, transaction_id=[]), "events[0].params.transaction_id"),
        (ga4_event("view_item", ITEM, session_id="s\x00"), "events[0].params.session_id"),
        (ga4_event("view_item_list", ITEM, {}), "events[0].params.items[1].product_id"),
        (ga4_event("search"), "events[0].params.search_term"),
        (ga4_event("view_item", *[ITEM] * 201), "events[0].params.items"),
        (ga4_event("view_item", ITEM) | {"timestamp_micros": "now"}, "events[0].timestamp_micros"),
        (ga4_event("view_item", ITEM) | {"timestamp_micros": -1}, "events[0].timestamp_micros"),
        (ga4_event("view_item", ITEM) | {"timestamp_micros": 10**18}, "events[0].timestamp_micros"),
    ],
)
def test_what_is_invalid_is_refused_by_its_path(event: Any, field: str) -> None:
    assert refused_field(event) == field


def test_an_event_with_a_name_of_the_shops_own_is_of_the_type_that_the_setting_says() -> None:
    content = read(ga4_event("add_to_wishlist", ITEM, {"item_id": 2}))
    assert [(event.type, event.item_id) for event in content.events] == [("like", ITEM["item_id"]), ("like", "2")]
    event = event_of(ga4_event("add_to_wishlist", item_id="i7", session_id=5))
    assert (event.type, event.item_id, event.session_id) == ("like", "i7", "5")
    assert refused_field(ga4_event("add_to_wishlist", item_name="Soup")) == "events[0].params.product_id"
    assert event_of(ga4_event("cart_opened", ITEM)).shown == (ITEM["item_id"],)


def test_an_item_is_refused_alone_and_so_is_an_event() -> None:
    content = read(ga4_event("purchase", ITEM, {}, ITEM), 3, ga4_event("view_item", ITEM), ga4_event("login"))
    assert [event.type for event in content.events] == ["purchase", "purchase", "view"]
    assert [(refusal.index, refusal.field) for refusal in content.refused] == [
        (0, "events[0].params.items[1].product_id"),
        (1, "events[1]"),
    ]
    assert [ignored.index for ignored in content.ignored] == [3]


def test_the_user_is_the_user_id_else_the_client_id() -> None:
    view = ga4_event("view_item", ITEM)
    assert event_of(view, client_id=17).user_id == "17"
    assert event_of(view, client_id=None, user_id="u1").user_id == "u1"
    assert event_of(view, user_id="").user_id == "c1"
    assert refused_field(view, client_id=None) == "client_id"
    assert refused_field(view, client_id="c\x00") == "client_id"
    assert refused_field(view, user_id="u\x00") == "user_id"


def test_a_user_id_beside_a_client_id_says_who_the_client_is() -> None:
    content = read(ga4_event("view_item", ITEM), ga4_event("login"), user_id="u1")
    assert [event.user_id for event in content.events] == ["u1"]
    assert content.identities == [
        IdentifiedVisitor(anonymous_id="c1", identity=Identity(user_id="u1", ts=MICROS // 1000))
    ]
    assert read(ga4_event("login"), user_id="u1", timestamp_micros=None).identities[0].identity.ts == NOW_MS
    assert not read(ga4_event("view_item", ITEM), user_id="c1").identities
    content = read(ga4_event("login"), user_id="u1", client_id="c\x00")
    assert [refusal.field for refusal in content.refused] == ["client_id"]


def test_a_time_is_that_of_the_event_else_of_the_request_else_of_its_arrival() -> None:
    view = ga4_event("view_item", ITEM)
    assert event_of(view | {"timestamp_micros": 5_999}).ts == 5
    assert event_of(view, timestamp_micros="7000").ts == 7
    assert event_of(view, timestamp_micros=None).ts == NOW_MS


# --- ids --------------------------------------------------------------------------------------------------------------


def ids(*events: Any, **options: Any) -> list[str]:
    return [event.event_id for event in read(*events, **options).events]


def test_a_retry_has_the_same_ids_if_the_request_has_a_time() -> None:
    events = [ga4_event("view_item", ITEM), ga4_event("search", search_term="soup"), ga4_event("view_item", ITEM)]
    first = ids(*events)
    assert len(set(first)) == 3
    assert ids(*events, received_ms=NOW_MS + 5_000) == first
    assert set(ids(*events, timestamp_micros=MICROS + 1)).isdisjoint(first)
    assert set(ids(*events, client_id="c2")).isdisjoint(first)


def test_a_retry_without_a_time_is_another_event_and_so_is_another_item_in_the_same_millisecond() -> None:
    view, other = ga4_event("view_item", ITEM), ga4_event("view_item", ITEM | {"item_id": "i2"})
    first = ids(view, timestamp_micros=None)
    assert ids(view, timestamp_micros=None, received_ms=NOW_MS + 1) != first
    assert ids(other, timestamp_micros=None) != first


def test_a_purchase_is_known_by_its_transaction_whenever_it_is_sent() -> None:
    purchase = ga4_event("purchase", ITEM, ITEM, {"item_id": "i2"}, transaction_id="t1")
    first = ids(purchase)
    assert len(set(first)) == 3
    assert ids(ga4_event("login"), purchase, timestamp_micros=None) == first
    assert set(ids(ga4_event("purchase", ITEM, ITEM, transaction_id="t2"))).isdisjoint(first)
    refund = ga4_event("refund", ITEM, transaction_id="t1")
    assert ids(refund) != ids(refund, timestamp_micros=MICROS + 1), "an order may be refunded piece by piece"


# --- limits -----------------------------------------------------------------------------------------------------------


def test_more_events_than_the_protocol_or_a_request_allows_are_refused_together() -> None:
    assert len(read(*[ga4_event("view_item", ITEM)] * 25).events) == 25
    assert len(read(ga4_event("view_item", *[ITEM] * 200)).events) == 200
    few = CollectorLimits(body_bytes=100_000, event_bytes=2_000, events=10)
    for events, limits in (
        ([ga4_event("login")] * 26, LIMITS),
        ([ga4_event("view_item", *[ITEM] * 200)] * 2, LIMITS),
        ([ga4_event("view_item", *[ITEM] * 11)], few),
    ):
        with pytest.raises(HttpProblem) as raised:
            read(*events, limits=limits)
        assert raised.value.status == 413


def test_an_event_that_would_be_larger_than_its_limit_is_refused() -> None:
    items = [{"item_id": f"{number:0500}"} for number in range(5)]
    content = read(ga4_event("view_item_list", *items), ga4_event("view_item_list", *items[:3]))
    assert [(refusal.index, refusal.reason) for refusal in content.refused] == [
        (0, "the event has more than 2000 bytes")
    ]
    assert len(content.events) == 1
