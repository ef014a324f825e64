"""The tracker on pages of a shop, in a real browser, against the collector with a publisher in memory."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anabranch.http import api_keys, key_file
from anabranch.http.key_file import KeyFile
from producers.collector import request_handler
from tests.support.chromium import Chromium, Page, await_true, require_chromium, running_chromium
from tests.support.collector_server import CollectorServer

ROOT = Path(__file__).parents[4]
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with running_chromium(require_chromium(), tmp_path_factory.mktemp("profile")) as browser:
        yield browser


class Shop:
    """A shop's pages with the tracker, and one visitor."""

    def __init__(self, chromium: Chromium, server: CollectorServer, key: str) -> None:
        self.server = server
        self.recorder = server.recorder
        self._chromium = chromium
        self._visitor = chromium.new_visitor()
        self.key = key
        self.write_page()

    def write_page(self, attributes: str = "", before: str = "", key: str | None = None) -> None:
        """`attributes` of the tracker's tag; `before`: a script that runs before the tracker."""
        self.server.html = f"""<!doctype html><title>Shop</title><script>{before}</script>
<script src="{self.server.url}/tracker.js" data-key="{key or self.key}" {attributes}></script>"""

    def blank_tab(self) -> Page:
        return self._chromium.new_page(self._visitor)

    def tab(self, path: str = "/", host: str = "127.0.0.1", before: str = "") -> Page:
        """A page of the shop; `before`: what makes the browser another one."""
        page = self.blank_tab()
        if before:
            page.before_scripts(before)
        page.open(self.server.other_page_url(host) + path)
        return page

    def await_taken(self, count: int) -> list[dict[str, Any]]:
        """The events that were acknowledged, as they were sent, once they are so many."""
        await_true(lambda: len(self.taken()) >= count, f"{count} events; there are {self.recorder.requests}")
        return self.taken()

    def taken(self) -> list[dict[str, Any]]:
        return self.recorder.with_status(202)


@pytest.fixture
def shop(chromium: Chromium, tmp_path: Path) -> Iterator[Shop]:
    path = tmp_path / "keys.json"
    text, key = api_keys.create("browser", ["events:write"])
    key_file.add(path, key)
    server = CollectorServer(KeyFile(path))
    with server.running():
        yield Shop(chromium, server, text)


def entries(page: Page) -> dict[str, str]:
    """What the tracker has in the storage of the page's origin."""
    found: dict[str, str] = page.run("({...localStorage})")
    return found


def queue(page: Page) -> list[str]:
    return sorted(name for name in entries(page) if name.startswith("anabranch.q."))


def await_empty_queue(page: Page) -> None:
    await_true(lambda: not queue(page), "the end of the queue")


def let_it_try(page: Page) -> None:
    """Longer than the tracker gathers events before it sends them."""
    page.run("new Promise(done => setTimeout(done, 1000))")


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_what_a_page_says_arrives_as_events_of_one_anonymous_user(shop: Shop) -> None:
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


def test_the_page_of_the_documentation_sends_what_it_says(shop: Shop) -> None:
    [html] = re.findall(r"```html\n(.*?)```", (ROOT / "docs/api.md").read_text("utf-8"), re.DOTALL)
    shop.server.html = html.replace("http://127.0.0.1:8000", shop.server.url).replace("KEY", shop.key)
    shop.tab().run("document.querySelector('button').click()")
    assert [event["type"] for event in shop.await_taken(3)] == ["view", "impression", "cart"]


def test_events_of_one_moment_are_one_request_without_a_preflight_request(shop: Shop) -> None:
    shop.tab().run("for (let n = 0; n < 10; n++) anabranch.view('i' + n)")
    shop.await_taken(10)
    assert shop.recorder.methods == ["GET", "POST"], "the script, and the events"


def test_a_request_outlives_its_page_and_has_no_cookies(shop: Shop) -> None:
    noted = "const send = fetch; window.fetch = (url, options) => send(url, window.options = options)"
    page = shop.tab(before=noted)
    page.run("anabranch.view('i1')")
    shop.await_taken(1)
    assert page.run("[options.keepalive, options.credentials]") == [True, "omit"]


def test_the_collector_may_be_elsewhere_than_the_script(shop: Shop) -> None:
    shop.write_page('data-url="http://127.0.0.1:1/below/"')
    noted = "window.addresses = []; window.fetch = async url => { addresses.push(url); throw 0; }"
    page = shop.tab(before=noted)
    page.run("anabranch.view('i1')")
    page.until("addresses.length > 0")
    assert page.run("addresses[0]") == f"http://127.0.0.1:1/below/v1/beacon?key={shop.key}"


def test_a_long_list_that_was_shown_is_several_impressions(shop: Shop) -> None:
    shop.tab().run("anabranch.impression(Array.from({length: 450}, (_, n) => 'i' + n))")
    assert [len(event["shown"]) for event in shop.await_taken(3)] == [200, 200, 50]


def test_an_order_that_is_told_again_has_the_same_event_ids(shop: Shop) -> None:
    script = "anabranch.purchase(['i1', 'i1', 'i2'], {order_id: 'o7'})"
    shop.tab().run(script)
    shop.await_taken(3)
    shop.tab().run(script)
    ids = [event["event_id"] for event in shop.await_taken(6)]
    assert ids[:3] == ids[3:]
    assert len(set(ids)) == 3


def test_calls_before_the_script_is_loaded_are_made_up_for(shop: Shop) -> None:
    shop.write_page(before="anabranch = []; anabranch.push(['view', 'i1']); anabranch.push(['search', 'tea'])")
    page = shop.tab()
    page.run("anabranch.push(['view', 'i2'])")
    assert [event["type"] for event in shop.await_taken(3)] == ["view", "search", "view"]


def test_a_wrong_call_breaks_nothing_of_the_page(shop: Shop) -> None:
    page = shop.tab()
    page.run(
        "anabranch.view(); anabranch.purchase(null); anabranch.view('i1', {context: {n: 1n}}); anabranch.view('i2')"
    )
    assert [event["item_id"] for event in shop.await_taken(1)] == ["i2"]


# --- who --------------------------------------------------------------------------------------------------------------


def test_the_anonymous_id_stays_on_the_next_page_and_in_another_tab(shop: Shop) -> None:
    page = shop.tab()
    page.run("anabranch.view('i1')")
    shop.await_taken(1)
    page.open(shop.server.page_url + "/next")
    page.run("anabranch.view('i2')")
    shop.await_taken(2)
    shop.tab().run("anabranch.view('i3')")
    assert len({event["user_id"] for event in shop.await_taken(3)}) == 1


def test_from_identify_on_events_have_the_users_id_and_after_a_logout_the_anonymous_one(shop: Shop) -> None:
    page = shop.tab()
    page.run("anabranch.view('i1'); anabranch.identify(7); anabranch.view('i2')")
    shop.await_taken(2)
    shop.tab().run("anabranch.view('i3'); anabranch.identify(null); anabranch.view('i4')")
    anonymous = entries(page)["anabranch.id"]
    assert [event["user_id"] for event in shop.await_taken(4)] == [anonymous, "7", "7", anonymous]


def test_without_local_storage_a_cookie_keeps_the_anonymous_id(shop: Shop) -> None:
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


def test_a_page_without_a_secure_context_sends_too(shop: Shop) -> None:
    page = shop.tab(host="shop.test")
    assert page.run("[window.isSecureContext, typeof crypto.randomUUID, typeof navigator.locks]") == [
        False,
        "undefined",
        "undefined",
    ]
    page.run("anabranch.view('i1'); anabranch.view('i2')")
    assert len({event["event_id"] for event in shop.await_taken(2)}) == 2


# --- retries ----------------------------------------------------------------------------------------------------------


def test_what_was_not_acknowledged_is_sent_again_with_the_same_ids(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_handler, "RETRY_AFTER_S", 1)
    shop.server.publisher.broken = True
    page = shop.tab()
    page.run("anabranch.view('i1'); anabranch.view('i2')")
    await_true(lambda: len(shop.recorder.with_status(503)) >= 4, "a retry")
    shop.server.publisher.broken = False
    assert shop.await_taken(2) == shop.recorder.with_status(503)[:2]
    await_empty_queue(page)
    assert len(shop.taken()) == 2


def test_no_tab_tries_again_before_the_collector_says(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_handler, "RETRY_AFTER_S", 3_600)
    shop.server.publisher.broken = True
    page = shop.tab()
    page.run("anabranch.view('i1')")
    page.until("'anabranch.retry' in localStorage")
    assert page.run("localStorage['anabranch.retry'] - Date.now()") > HOUR_MS / 2
    shop.server.publisher.broken = False
    other = shop.tab()
    other.run("anabranch.view('i2')")
    let_it_try(other)
    assert len(shop.recorder.requests) == 1
    assert len(queue(other)) == 2, "nothing is lost"


def test_the_next_page_sends_what_a_page_before_it_could_not(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.server.publisher.broken = True
    page = shop.tab()
    page.run("anabranch.view('i1')")
    page.until("'anabranch.retry' in localStorage")
    page.run("""
        delete localStorage["anabranch.retry"];
        for (const name in localStorage) if (name.startsWith("anabranch.q.")) {
            const parts = name.split(".");
            localStorage[[...parts.slice(0, 2), parts[2] - 60000, ...parts.slice(3)].join(".")] = localStorage[name];
            delete localStorage[name];
        }
    """)
    page.close()
    shop.server.publisher.broken = False
    shop.tab()
    assert shop.await_taken(1) == shop.recorder.with_status(503)[:1]


def test_what_is_refused_is_not_sent_again_and_the_rest_is_taken(shop: Shop) -> None:
    page = shop.tab()
    page.run("anabranch.rating('i1'); anabranch.view('i2')")
    page.until("anabranch.counts().refused == 1")
    assert not queue(page)
    assert [event.item_id for event in shop.server.publisher.events] == ["i2"]
    let_it_try(page)
    assert len(shop.recorder.requests) == 1


def test_a_key_that_is_refused_is_not_tried_again(shop: Shop) -> None:
    shop.write_page(key="nope")
    page = shop.tab()
    page.run("anabranch.view('i1')")
    page.until("anabranch.counts().refused == 1")
    assert not queue(page)
    assert [status for status, _ in shop.recorder.requests] == [401]


def test_pages_of_another_origin_send_nothing_that_is_taken(shop: Shop) -> None:
    page = shop.tab(host="localhost")
    page.run("anabranch.view('i1')")
    await_true(lambda: bool(shop.recorder.requests), "a request")
    assert [status for status, _ in shop.recorder.requests] == [403]
    assert not shop.server.publisher.events


def test_the_queue_is_bounded_and_what_is_dropped_is_the_oldest_and_counted(shop: Shop) -> None:
    page = shop.tab()
    page.run(f"localStorage['anabranch.retry'] = Date.now() + {HOUR_MS}")
    page.run("for (let n = 0; n < 510; n++) anabranch.view('i' + n); anabranch.search('x'.repeat(20000))")
    queued = [entries(page)[name] for name in queue(page)]
    assert [json.loads(text)["item_id"] for text in queued] == [f"i{number}" for number in range(10, 510)]
    assert page.run("anabranch.counts().dropped") == 11, "ten of the oldest, and one that is too long"


# --- leaving, and several tabs ----------------------------------------------------------------------------------------


def test_an_event_is_sent_though_its_page_is_left_at_once(shop: Shop) -> None:
    shop.tab().run("anabranch.cart('i1'); location.href = 'about:blank'; 0")
    assert [event["item_id"] for event in shop.await_taken(1)] == ["i1"]


def test_an_event_is_sent_though_its_tab_is_closed_at_once(shop: Shop) -> None:
    page = shop.tab()
    page.run("anabranch.cart('i1'); 0")
    page.close()
    assert [event["item_id"] for event in shop.await_taken(1)] == ["i1"]


def test_several_tabs_send_each_event_once(shop: Shop) -> None:
    tabs = [shop.tab() for _ in range(3)]
    for number in range(10):
        for tab in tabs:
            tab.run(f"for (let n = 0; n < 3; n++) anabranch.view('i{number}')")
    shop.await_taken(90)
    for tab in tabs:
        await_empty_queue(tab)
    assert set(Counter(event["event_id"] for event in shop.taken()).values()) == {1}
    assert len(shop.taken()) == 90


def test_what_a_closed_tab_has_left_is_sent_once_by_the_tabs_that_are_there(shop: Shop) -> None:
    page = shop.tab()
    at_ms = int(time.time() * 1000) - HOUR_MS
    page.run(f"""
        for (let n = 0; n < 60; n++)
            localStorage["anabranch.q." + ({at_ms} + n) + ".1000000.gone"] =
                JSON.stringify({{event_id: "e" + n, user_id: "u", type: "view", ts: {at_ms} + n, item_id: "i"}});
    """)
    tabs = [shop.tab(f"/{number}") for number in range(3)]
    for tab in tabs:
        tab.run("anabranch.view('own')")
    shop.await_taken(63)
    for tab in tabs:
        await_empty_queue(tab)
    assert set(Counter(event["event_id"] for event in shop.taken()).values()) == {1}
    assert len(shop.taken()) == 63


def test_what_another_tab_has_just_queued_is_left_to_it(shop: Shop) -> None:
    page = shop.tab()
    page.run("""
        localStorage["anabranch.q." + Date.now() + ".1000000.another"] =
            JSON.stringify({event_id: "e", user_id: "u", type: "view", ts: Date.now(), item_id: "i"});
        anabranch.view("own");
    """)
    shop.await_taken(1)
    let_it_try(page)
    assert [event["item_id"] for event in shop.taken()] == ["own"]
    assert [name.split(".")[-1] for name in queue(page)] == ["another"]


# --- consent ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", ["globalPrivacyControl", "doNotTrack"])
def test_who_asks_not_to_be_tracked_is_not(shop: Shop, signal: str) -> None:
    value = {"globalPrivacyControl": "true", "doNotTrack": "'1'"}[signal]
    page = shop.tab(before=f"Object.defineProperty(Navigator.prototype, '{signal}', {{get: () => {value}}})")
    page.run("anabranch.consent(true); anabranch.identify('u'); anabranch.view('i1')")
    let_it_try(page)
    assert (entries(page), page.run("document.cookie")) == ({}, "")
    assert not shop.recorder.requests


def test_before_consent_nothing_is_stored_or_sent_and_with_it_what_came_before_is(shop: Shop) -> None:
    shop.write_page('data-consent="required"')
    page = shop.tab()
    page.run("anabranch.view('i1'); anabranch.identify('u'); anabranch.view('i2')")
    let_it_try(page)
    assert (entries(page), page.run("document.cookie")) == ({}, "")
    assert not shop.recorder.requests
    page.run("anabranch.consent(true); anabranch.view('i3')")
    events = shop.await_taken(3)
    assert [event["user_id"] for event in events] == [entries(page)["anabranch.id"], "u", "u"]


def test_where_consent_is_withdrawn_nothing_stays_and_nothing_more_is_sent(shop: Shop) -> None:
    page = shop.tab()
    page.run("anabranch.identify('u'); anabranch.view('i1')")
    shop.await_taken(1)
    page.run(
        f"localStorage['anabranch.retry'] = Date.now() + {HOUR_MS}; anabranch.view('i2'); anabranch.consent(false)"
    )
    page.run("anabranch.view('i3')")
    let_it_try(page)
    assert entries(page) == {}
    assert len(shop.recorder.requests) == 1
