"""What pages with the tracker say, and of whom, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.tracked_shop import TrackedShop, await_empty_queue, entries

ROOT = Path(__file__).parents[4]


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_what_a_page_says_arrives_as_events_of_one_anonymous_user(shop: TrackedShop) -> None:
    page = shop.tab()
    started_at_ms = page.run("Date.now()")
    page.run("""
        anabranch.view("i42", {domain: "grocery", ranking_id: "r7"});
        anabranch.cart(42);
        anabranch.search("oat milk");
        anabranch.impression(["i1", {item_id: "i2"}]);
        anabranch.purchase([{item_id: "i42", quantity: 2, price: 1.89}, "i43"], {order_id: 1001});
        anabranch.rating("i42", {rating: 0.5});
        for (const type of ["click", "like", "dislike", "remove_from_cart", "refund"]) anabranch[type]("i42");
    """)
    events = shop.await_taken(12)
    users, ids = {event["user_id"] for event in events}, {event["event_id"] for event in events}
    assert users == {entries(page)["anabranch.id"]}
    assert len(ids) == len(events) == 12
    assert {event["ts"] - started_at_ms < 60_000 for event in events} == {True}
    sent = [{name: event[name] for name in event if name not in ("user_id", "event_id", "ts")} for event in events]
    assert sent[:8] == [
        {"type": "view", "item_id": "i42", "domain": "grocery", "ranking_id": "r7"},
        {"type": "cart", "item_id": "42"},
        {"type": "search", "query": "oat milk"},
        {"type": "impression", "shown": ["i1", "i2"]},
        {"type": "purchase", "item_id": "i42", "quantity": 2, "price": 1.89, "order_id": "1001"},
        {"type": "purchase", "item_id": "i43", "order_id": "1001"},
        {"type": "rating", "item_id": "i42", "rating": 0.5},
        {"type": "click", "item_id": "i42"},
    ]
    assert [event.event_id for event in shop.server.publisher.events] == [event["event_id"] for event in events]
    await_empty_queue(page)


def test_the_page_of_the_documentation_sends_what_it_says(shop: TrackedShop) -> None:
    [html] = re.findall(r"```html\n(.*?)```", (ROOT / "docs/api.md").read_text("utf-8"), re.DOTALL)
    shop.server.html = html.replace("http://127.0.0.1:8000", shop.server.url).replace("KEY", shop.key)
    shop.tab().run("document.querySelector('button').click()")
    assert [event["type"] for event in shop.await_taken(3)] == ["view", "impression", "cart"]


def test_events_of_one_moment_are_one_request_without_a_preflight_request(shop: TrackedShop) -> None:
    shop.tab().run("for (let n = 0; n < 10; n++) anabranch.view('i' + n)")
    shop.await_taken(10)
    assert shop.recorder.methods == ["GET", "POST"], "the script, and the events"


def test_a_request_outlives_its_page_and_has_no_cookies(shop: TrackedShop) -> None:
    noted = "const send = fetch; window.fetch = (url, options) => send(url, window.options = options)"
    page = shop.tab(before=noted)
    page.run("anabranch.view('i1')")
    shop.await_taken(1)
    assert page.run("[options.keepalive, options.credentials]") == [True, "omit"]


def test_the_collector_may_be_elsewhere_than_the_script(shop: TrackedShop) -> None:
    shop.write_page('data-url="http://127.0.0.1:1/below/"')
    noted = "window.addresses = []; window.fetch = async url => { addresses.push(url); throw 0; }"
    page = shop.tab(before=noted)
    page.run("anabranch.view('i1')")
    page.until("addresses.length > 0")
    assert page.run("addresses[0]") == f"http://127.0.0.1:1/below/v1/beacon?key={shop.key}"


def test_a_long_list_that_was_shown_is_several_impressions(shop: TrackedShop) -> None:
    shop.tab().run("anabranch.impression(Array.from({length: 450}, (_, n) => 'i' + n))")
    assert [len(event["shown"]) for event in shop.await_taken(3)] == [200, 200, 50]


def test_an_order_that_is_told_again_has_the_same_event_ids(shop: TrackedShop) -> None:
    script = "anabranch.purchase(['i1', 'i1', 'i2'], {order_id: 'o7'})"
    shop.tab().run(script)
    shop.await_taken(3)
    shop.tab().run(script)
    ids = [event["event_id"] for event in shop.await_taken(6)]
    assert ids[:3] == ids[3:]
    assert len(set(ids)) == 3


def test_calls_before_the_script_is_loaded_are_made_up_for(shop: TrackedShop) -> None:
    shop.write_page(before="anabranch = []; anabranch.push(['view', 'i1']); anabranch.push(['search', 'tea'])")
    page = shop.tab()
    page.run("anabranch.push(['view', 'i2'])")
    assert [event["type"] for event in shop.await_taken(3)] == ["view", "search", "view"]


def test_a_wrong_call_breaks_nothing_of_the_page(shop: TrackedShop) -> None:
    page = shop.tab()
    page.run(
        "anabranch.view(); anabranch.purchase(null); anabranch.view('i1', {context: {n: 1n}}); anabranch.view('i2')"
    )
    assert [event["item_id"] for event in shop.await_taken(1)] == ["i2"]


# --- who --------------------------------------------------------------------------------------------------------------


def test_the_anonymous_id_stays_on_the_next_page_and_in_another_tab(shop: TrackedShop) -> None:
    page = shop.tab()
    page.run("anabranch.view('i1')")
    shop.await_taken(1)
    page.open(shop.server.page_url + "/next")
    page.run("anabranch.view('i2')")
    shop.await_taken(2)
    shop.tab().run("anabranch.view('i3')")
    assert len({event["user_id"] for event in shop.await_taken(3)}) == 1


def test_from_identify_on_events_have_the_users_id_and_after_a_logout_the_anonymous_one(shop: TrackedShop) -> None:
    page = shop.tab()
    page.run("anabranch.view('i1'); anabranch.identify(7); anabranch.view('i2')")
    shop.await_taken(2)
    shop.tab().run("anabranch.view('i3'); anabranch.identify(null); anabranch.view('i4')")
    anonymous = entries(page)["anabranch.id"]
    assert [event["user_id"] for event in shop.await_taken(4)] == [anonymous, "7", "7", anonymous]


def test_without_local_storage_a_cookie_keeps_the_anonymous_id(shop: TrackedShop) -> None:
    denied = """
        const refuse = () => { throw new DOMException("", "SecurityError"); };
        Object.defineProperty(window, "localStorage", {get: refuse});
        LockManager.prototype.request = async () => refuse();
    """
    for number in range(2):
        shop.tab(before=denied).run("anabranch.view('i1'); anabranch.identify('u'); anabranch.view('i2')")
        shop.await_taken(2 * number + 2)
    users = [event["user_id"] for event in shop.taken()]
    assert users[::2] == [users[0]] * 2
    assert users[1::2] == ["u"] * 2


def test_a_page_without_a_secure_context_sends_too(shop: TrackedShop) -> None:
    page = shop.tab(host="shop.test")
    assert page.run("[window.isSecureContext, typeof crypto.randomUUID, typeof navigator.locks]") == [
        False,
        "undefined",
        "undefined",
    ]
    page.run("anabranch.view('i1'); anabranch.view('i2')")
    assert len({event["event_id"] for event in shop.await_taken(2)}) == 2
