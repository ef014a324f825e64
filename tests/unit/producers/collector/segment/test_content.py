"""What becomes of messages of Segment's spec, without HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anabranch.http.problems import HttpProblem
from anabranch.messages import Event, Identity
from anabranch.own_event_types import OwnEventTypes
from producers.collector.forms.form import RequestContent
from producers.collector.forms.limits import CollectorLimits
from producers.collector.forms.shop_names import ShopNames
from producers.collector.segment.content import SegmentReader
from producers.identity_record import IdentifiedVisitor

LIMITS = CollectorLimits(body_bytes=100_000, event_bytes=2_000, events=10)
NOW_MS = 1_800_000_000_000
OWN_TYPES = OwnEventTypes({"Product Added to Wishlist": "like", "Site searched": "search", "Basket Opened": "view"})
ORDER = {"order_id": "o1", "products": [{"product_id": "p1", "quantity": 2, "price": 1.5}, {"product_id": "p2"}]}


def track(event: str, properties: Any, **changes: Any) -> dict[str, Any]:
    message = {"type": "track", "event": event, "properties": properties, "userId": "u1", "messageId": "m1"}
    return message | {"timestamp": "2026-01-01T00:00:00Z"} | changes


def read(*messages: Any, item_keys: tuple[str, ...] = ("product_id", "sku"), **options: Any) -> RequestContent:
    payloads = [json.dumps(message).encode() for message in messages]
    reader = SegmentReader(ShopNames(item_keys, OWN_TYPES), LIMITS, NOW_MS, options.pop("sent_at", None))
    return reader.read(payloads, **options)


def event_of(*messages: Any, **options: Any) -> Event:
    content = read(*messages, **options)
    assert not content.refused and not content.ignored
    [event] = content.events
    return event


def refusal_of(message: Any) -> tuple[int, str | None]:
    content = read(message)
    assert not content.events and not content.ignored
    [refusal] = content.refused
    assert refusal.reason and refusal.remedy
    return refusal.index, refusal.field


def ignored(message: Any) -> str:
    content = read(message)
    assert not content.events and not content.refused and not content.identities
    [ignored] = content.ignored
    return ignored.reason


# --- events -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("Product Viewed", "view"),
        ("Product Clicked", "click"),
        ("Product Added", "cart"),
        ("Product Removed", "remove_from_cart"),
        ("product viewed ", "view"),
        ("Viewed Product", "view"),
        ("Clicked Product", "click"),
        ("Added Product", "cart"),
        ("Removed Product", "remove_from_cart"),
    ],
)
def test_an_event_of_a_product_is_one_event(name: str, type: Any) -> None:
    properties = {"product_id": "p1", "price": 1.5, "quantity": 2, "ranking_id": "r1", "name": "Soup"}
    assert event_of(track(name, properties)) == Event(
        event_id="m1",
        user_id="u1",
        type=type,
        ts=1_767_225_600_000,
        item_id="p1",
        quantity=2,
        price=1.5,
        ranking_id="r1",
    )


def test_an_order_is_an_event_for_each_product_with_the_orders_id_and_ids_that_a_retry_repeats() -> None:
    content = read(track("Order Completed", ORDER))
    assert [(event.event_id, event.type, event.item_id, event.order_id) for event in content.events] == [
        ("m1#0", "purchase", "p1", "o1"),
        ("m1#1", "purchase", "p2", "o1"),
    ]
    assert [(event.quantity, event.price) for event in content.events] == [(2, 1.5), (None, None)]
    retry = read(track("Order Completed", ORDER))
    assert [event.event_id for event in retry.events] == [event.event_id for event in content.events]


def test_a_refund_of_products_is_an_event_for_each_and_one_without_products_is_ignored() -> None:
    assert {event.type for event in read(track("Order Refunded", ORDER)).events} == {"refund"}
    assert "which products" in ignored(track("Order Refunded", {"order_id": "o1"}))


def test_the_names_of_the_first_version_of_the_spec_are_taken_and_so_is_its_name_for_an_orders_id() -> None:
    order = {"orderId": 17, "products": [{"id": "p1", "quantity": 1, "price": 3}]}
    for name, kind in (("Completed Order", "purchase"), ("Refunded Order", "refund")):
        event = event_of(track(name, order), item_keys=("product_id", "id"))
        assert (event.type, event.item_id, event.order_id, event.event_id) == (kind, "p1", "17", "m1#0")
    bad_id = track("Completed Order", {"orderId": "x" * 513, "products": [{"product_id": "p1"}]})
    assert refusal_of(bad_id) == (0, "properties.orderId")
    event = event_of(track("Viewed Product Category", {"category": "Soup", "products": [{"product_id": "p1"}]}))
    assert (event.type, event.shown) == ("impression", ("p1",))
    assert "no products" in ignored(track("Viewed Product Category", {"category": "Soup"}))


def test_an_event_with_a_name_of_the_shops_own_is_of_the_type_that_the_setting_says() -> None:
    event = event_of(track("product added to WISHLIST ", {"product_id": "p1", "price": 2}))
    assert (event.type, event.item_id, event.price, event.event_id) == ("like", "p1", 2, "m1")
    event = event_of(track("Site Searched", {"query": "soup"}))
    assert (event.type, event.query) == ("search", "soup")
    several = read(track("Basket Opened", ORDER)).events
    assert [(event.type, event.item_id, event.event_id) for event in several] == [
        ("view", "p1", "m1#0"),
        ("view", "p2", "m1#1"),
    ]
    assert refusal_of(track("Basket Opened", {})) == (0, "properties.products")


def test_a_product_of_an_order_is_refused_alone() -> None:
    products = [{"product_id": "p1"}, {"name": "Soup"}, 3, {"product_id": "p2", "quantity": -1}, {"product_id": "p3"}]
    content = read(track("Order Completed", {"products": products}))
    assert [(event.event_id, event.item_id) for event in content.events] == [("m1#0", "p1"), ("m1#4", "p3")]
    assert [(refusal.index, refusal.field) for refusal in content.refused] == [
        (0, "properties.products[1].product_id"),
        (0, "properties.products[2]"),
        (0, "properties.products[3].quantity"),
    ]


def test_a_list_that_was_viewed_is_one_impression_with_its_items_in_order() -> None:
    products = [{"product_id": "p2"}, {"product_id": "p1"}]
    event = event_of(track("Product List Viewed", {"list_id": "l", "products": products}))
    assert (event.type, event.item_id, event.shown, event.event_id) == ("impression", None, ("p2", "p1"), "m1")
    assert "no products" in ignored(track("Product List Viewed", {"products": []}))
    assert refusal_of(track("Product List Viewed", {"products": [{}]})) == (0, "properties.products[0].product_id")
    too_many = {"products": [{"sku": 1}] * 201}
    content = SegmentReader(ShopNames(["sku"]), CollectorLimits(10**6, 10**6, 10), NOW_MS).read(
        [json.dumps(track("Product List Viewed", too_many)).encode()]
    )
    assert [refusal.field for refusal in content.refused] == ["properties.products"]


def test_a_search_has_its_query() -> None:
    event = event_of(track("Products Searched", {"query": "blue hotpants"}))
    assert (event.type, event.query, event.item_id) == ("search", "blue hotpants", None)
    assert refusal_of(track("Products Searched", {})) == (0, "properties.query")


def test_a_page_of_a_product_is_a_view_and_another_page_is_ignored() -> None:
    page = {"type": "page", "userId": "u1", "messageId": "m1", "properties": {"product_id": "p1", "url": "https://x"}}
    assert (event_of(page).type, event_of(page).item_id) == ("view", "p1")
    assert "not of a product" in ignored(page | {"properties": {"url": "https://x"}})
    assert "not of a product" in ignored({"type": "page", "anonymousId": "a"})


@pytest.mark.parametrize("name", ["Signed Up", "Cart Viewed", "Order Updated", "Product", " "])
def test_an_event_that_says_nothing_of_a_product_is_ignored_with_the_reason(name: str) -> None:
    assert "not one of those" in ignored(track(name, {"product_id": "p1"}))


# --- users, items, ids ------------------------------------------------------------------------------------------------


def test_the_user_is_the_user_id_else_the_anonymous_id() -> None:
    view = track("Product Viewed", {"product_id": "p1"})
    assert event_of(view | {"anonymousId": "a1"}).user_id == "u1"
    assert event_of(view | {"userId": None, "anonymousId": "a1"}).user_id == "a1"
    assert event_of(view | {"userId": "", "anonymousId": 7}).user_id == "7"
    assert refusal_of(view | {"userId": None}) == (0, "userId")
    assert refusal_of(view | {"userId": "a\x00"}) == (0, "userId")
    assert refusal_of(view | {"userId": "", "anonymousId": "a\x00"}) == (0, "anonymousId")


def test_the_item_is_the_first_field_of_the_setting_that_the_product_has() -> None:
    properties = {"product_id": 17, "sku": "s"}
    assert event_of(track("Product Viewed", properties)).item_id == "17"
    assert event_of(track("Product Viewed", properties), item_keys=("sku",)).item_id == "s"
    assert event_of(track("Product Viewed", {"product_id": None, "sku": "s"})).item_id == "s"
    assert refusal_of(track("Product Viewed", {"item_id": "i"})) == (0, "properties.product_id")
    assert refusal_of(track("Product Viewed", {"product_id": ""})) == (0, "properties.product_id")
    assert refusal_of(track("Product Viewed", {"product_id": True})) == (0, "properties.product_id")


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("price", "19.90", None),
        ("price", "$19.90", "properties.price"),
        ("price", "nan", "properties.price"),
        ("price", [], "properties.price"),
        ("quantity", "2", None),
        ("quantity", -1, "properties.quantity"),
        ("order_id", 17, None),
        ("order_id", "", None),
        ("order_id", {}, "properties.order_id"),
        ("ranking_id", "r" * 513, "properties.ranking_id"),
    ],
)
def test_what_else_an_event_says_is_checked_and_named_by_its_path(field: str, value: object, path: str | None) -> None:
    message = track("Product Viewed", {"product_id": "p1", field: value})
    if path is None:
        event_of(message)
    else:
        assert refusal_of(message) == (0, path)


def test_a_message_without_an_id_has_one_that_follows_from_what_it_says() -> None:
    view = track("Product Viewed", {"product_id": "p1", "name": "x"}, messageId=None)
    first, again = event_of(view), event_of(dict(reversed(view.items())))
    assert first.event_id == again.event_id
    others = [
        view | {"userId": "u2"},
        view | {"timestamp": "2026-01-01T00:00:01Z"},
        view | {"event": "Product Clicked"},
        view | {"properties": {"product_id": "p2", "name": "x"}},
    ]
    assert len({event_of(other).event_id for other in (view, *others)}) == 5


def test_messages_without_an_id_and_a_time_are_different_events() -> None:
    view = track("Product Viewed", {"product_id": "p1"}, messageId=None, timestamp=None)
    content = read(view, view)
    assert len({event.event_id for event in content.events}) == 2
    assert {event.ts for event in content.events} == {NOW_MS}


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "sent_at", "ts"),
    [
        ({}, None, NOW_MS),
        ({"timestamp": "2026-01-01T00:00:00.250Z"}, None, 1_767_225_600_250),
        ({"timestamp": "2026-01-01T01:00:00+01:00"}, None, 1_767_225_600_000),
        ({"timestamp": "2026-01-01T00:00:00"}, None, 1_767_225_600_000),
        ({"originalTimestamp": "2026-01-01T00:00:00Z", "timestamp": "2020-01-01T00:00:00Z"}, None, 1_767_225_600_000),
        ({"timestamp": "2026-01-01T00:00:00Z", "sentAt": "2026-01-01T00:00:05Z"}, None, NOW_MS - 5_000),
        ({"originalTimestamp": "2036-01-01T00:00:00Z", "sentAt": "2036-01-01T00:01:00Z"}, None, NOW_MS - 60_000),
        ({"timestamp": "2026-01-01T00:00:00Z"}, "2026-01-01T00:00:02Z", NOW_MS - 2_000),
        (
            {"timestamp": "2026-01-01T00:00:00Z", "sentAt": "2026-01-01T00:00:05Z"},
            "2030-01-01T00:00:00Z",
            NOW_MS - 5_000,
        ),
        ({"sentAt": "2026-01-01T00:00:05Z"}, None, NOW_MS),
    ],
)
def test_a_time_is_corrected_by_the_difference_of_the_clocks(
    times: dict[str, str], sent_at: str | None, ts: int
) -> None:
    view = track("Product Viewed", {"product_id": "p1"}, timestamp=None) | times
    assert event_of(view, sent_at=sent_at).ts == ts


@pytest.mark.parametrize(
    ("times", "field"),
    [
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"originalTimestamp": "1767225600"}, "originalTimestamp"),
        ({"sentAt": "2026-13-01"}, "sentAt"),
        ({"timestamp": "1960-01-01T00:00:00Z"}, "timestamp"),
        ({"timestamp": "0001-01-01T00:00:00+23:59"}, "timestamp"),
        ({"timestamp": "9999-12-31T23:59:59Z", "sentAt": "2026-01-01T00:00:00Z"}, "timestamp"),
    ],
)
def test_what_is_no_time_of_this_age_is_refused(times: dict[str, str], field: str) -> None:
    assert refusal_of(track("Product Viewed", {"product_id": "p1"}) | times) == (0, field)


# --- identities -------------------------------------------------------------------------------------------------------


def test_an_identify_and_an_alias_say_who_an_anonymous_id_is() -> None:
    times = {"timestamp": "2026-01-01T00:00:00Z"}
    content = read(
        {"type": "identify", "anonymousId": "a1", "userId": "u1", "traits": {"email": "x"}} | times,
        {"type": "alias", "previousId": "a2", "userId": "u2"},
        {"type": "alias", "anonymousId": "a3", "userId": "u3"},
    )
    assert not content.refused and not content.ignored and not content.events
    assert content.identities == [
        IdentifiedVisitor(anonymous_id="a1", identity=Identity(user_id="u1", ts=1_767_225_600_000)),
        IdentifiedVisitor(anonymous_id="a2", identity=Identity(user_id="u2", ts=NOW_MS)),
        IdentifiedVisitor(anonymous_id="a3", identity=Identity(user_id="u3", ts=NOW_MS)),
    ]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "identify", "userId": "u1"},
        {"type": "identify", "anonymousId": "a1"},
        {"type": "identify", "anonymousId": "u1", "userId": "u1"},
        {"type": "alias", "userId": "u1"},
        {"type": "identify"},
    ],
)
def test_a_call_that_does_not_join_two_ids_is_ignored(message: dict[str, Any]) -> None:
    assert "two ids" in ignored(message)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"type": "alias", "previousId": "a1"}, "userId"),
        ({"type": "alias", "previousId": "a\n", "userId": "u1"}, "previousId"),
        ({"type": "identify", "anonymousId": "a1", "userId": "u" * 513}, "userId"),
        ({"type": "identify", "anonymousId": "a\x1f", "userId": "u1"}, "anonymousId"),
        ({"type": "identify", "anonymousId": "a", "userId": "u", "timestamp": "1960-01-01"}, "timestamp"),
    ],
)
def test_an_identity_that_is_invalid_is_refused_by_its_field(message: dict[str, Any], field: str) -> None:
    assert refusal_of(message) == (0, field)


# --- batches ----------------------------------------------------------------------------------------------------------


def test_what_is_invalid_is_refused_by_its_position_and_the_rest_is_taken() -> None:
    view = track("Product Viewed", {"product_id": "p1"})
    content = read(view, 3, {"type": "group", "groupId": "g"}, track("Signed Up", {}), {"userId": []}, {}, view)
    assert len(content.events) == 2
    assert [(refusal.index, refusal.field) for refusal in content.refused] == [
        (1, None),
        (2, "type"),
        (4, None),
        (5, "type"),
    ]
    assert [message.index for message in content.ignored] == [3]
    assert "'group' are not taken" in content.refused[1].reason


def test_the_path_of_a_request_says_what_its_call_is() -> None:
    view = track("Product Viewed", {"product_id": "p1"}, type=None)
    assert event_of(view, call="track").type == "view"
    assert event_of(view | {"type": "group"}, call="track").type == "view"


def test_a_field_that_stands_there_twice_is_named_for_parsers_differ_in_which_they_take() -> None:
    payload = b'{"type":"track","userId":"u1","userId":"u2","event":"Product Viewed","properties":{"product_id":"p"}}'
    [refusal] = SegmentReader(ShopNames(["product_id"]), LIMITS, NOW_MS).read([payload]).refused
    assert "`userId` occurs twice" in refusal.reason


def test_a_message_over_its_limit_is_refused_alone() -> None:
    view = track("Product Viewed", {"product_id": "p1"})
    content = read(view | {"context": "x" * 2_000}, view)
    assert [refusal.index for refusal in content.refused] == [0]
    assert len(content.events) == 1


def test_more_events_than_a_request_may_have_are_refused_together_also_if_one_order_has_them() -> None:
    order = {"products": [{"product_id": str(number)} for number in range(11)]}
    for messages in ([track("Order Completed", order)], [track("Signed Up", {})] * 11):
        with pytest.raises(HttpProblem) as raised:
            read(*messages)
        assert raised.value.status == 413
    assert len(read(track("Order Completed", {"products": order["products"][:10]})).events) == 10
