"""How the tracker delivers: retries, pages that are left, several tabs, consent; in a real browser."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest

from producers.collector import request_handler
from tests.support.chromium import Page, await_true
from tests.support.tracked_shop import TrackedShop, await_empty_queue, entries, let_it_try, queue

HOUR_MS = 3_600_000


# --- retries ----------------------------------------------------------------------------------------------------------


def test_what_was_not_acknowledged_is_sent_again_with_the_same_ids(
    shop: TrackedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_handler, "RETRY_AFTER_S", 1)
    shop.server.publisher.broken = True
    page = shop.tab()
    page.run("anabranch.view('i1'); anabranch.view('i2')")
    await_true(lambda: len(shop.recorder.with_status(503)) >= 4, "a retry")
    shop.server.publisher.broken = False
    assert shop.await_taken(2) == shop.recorder.with_status(503)[:2]
    await_empty_queue(page)
    assert len(shop.taken()) == 2


def test_no_tab_tries_again_before_the_collector_says(shop: TrackedShop, monkeypatch: pytest.MonkeyPatch) -> None:
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


def leave_for_another_page(page: Page) -> None:
    """As if the page had been closed a minute ago, and the time to try again had come."""
    page.run("""
        delete localStorage["anabranch.retry"];
        for (const name in localStorage) if (name.startsWith("anabranch.q.")) {
            const parts = name.split(".");
            localStorage[[...parts.slice(0, 2), parts[2] - 60000, ...parts.slice(3)].join(".")] = localStorage[name];
            delete localStorage[name];
        }
    """)
    page.close()


def test_the_next_page_sends_what_a_page_before_it_could_not(shop: TrackedShop) -> None:
    shop.server.publisher.broken = True
    page = shop.tab()
    page.run("anabranch.view('i1')")
    page.until("'anabranch.retry' in localStorage")
    leave_for_another_page(page)
    shop.server.publisher.broken = False
    shop.tab()
    assert shop.await_taken(1) == shop.recorder.with_status(503)[:1]


def test_what_is_refused_is_not_sent_again_and_the_rest_is_taken(shop: TrackedShop) -> None:
    page = shop.tab()
    page.run("anabranch.rating('i1'); anabranch.view('i2')")
    page.until("anabranch.counts().refused == 1")
    assert not queue(page)
    assert [event.item_id for event in shop.server.publisher.events] == ["i2"]
    let_it_try(page)
    assert len(shop.recorder.requests) == 1


def test_what_a_key_that_is_not_valid_could_not_send_is_sent_with_the_next_one(shop: TrackedShop) -> None:
    shop.write_page(key="nope")
    page = shop.tab()
    page.run("anabranch.view('i1')")
    page.until("'anabranch.retry' in localStorage")
    assert (len(queue(page)), page.run("anabranch.counts().refused")) == (1, 0)
    leave_for_another_page(page)
    shop.write_page()
    shop.tab()
    assert [event["item_id"] for event in shop.await_taken(1)] == ["i1"]


def test_pages_of_another_origin_send_nothing_that_is_taken(shop: TrackedShop) -> None:
    page = shop.tab(host="localhost")
    page.run("anabranch.view('i1')")
    await_true(lambda: bool(shop.recorder.requests), "a request")
    assert [status for status, _ in shop.recorder.requests] == [403]
    assert not shop.server.publisher.events


def test_the_queue_is_bounded_and_what_is_dropped_is_the_oldest_and_counted(shop: TrackedShop) -> None:
    page = shop.tab()
    page.run(f"localStorage['anabranch.retry'] = Date.now() + {HOUR_MS}")
    page.run("for (let n = 0; n < 510; n++) anabranch.view('i' + n); anabranch.search('x'.repeat(20000))")
    queued = [entries(page)[name] for name in queue(page)]
    assert [json.loads(text)["item_id"] for text in queued] == [f"i{number}" for number in range(10, 510)]
    assert page.run("anabranch.counts().dropped") == 11, "ten of the oldest, and one that is too long"


# --- leaving, and several tabs ----------------------------------------------------------------------------------------


def test_an_event_is_sent_though_its_page_is_left_at_once(shop: TrackedShop) -> None:
    shop.tab().run("anabranch.cart('i1'); location.href = 'about:blank'; 0")
    assert [event["item_id"] for event in shop.await_taken(1)] == ["i1"]


def test_an_event_is_sent_though_its_tab_is_closed_at_once(shop: TrackedShop) -> None:
    page = shop.tab()
    page.run("anabranch.cart('i1'); 0")
    page.close()
    assert [event["item_id"] for event in shop.await_taken(1)] == ["i1"]


def test_several_tabs_send_each_event_once(shop: TrackedShop) -> None:
    tabs = [shop.tab() for _ in range(3)]
    for number in range(10):
        for tab in tabs:
            tab.run(f"for (let n = 0; n < 3; n++) anabranch.view('i{number}')")
    shop.await_taken(90)
    for tab in tabs:
        await_empty_queue(tab)
    assert set(Counter(event["event_id"] for event in shop.taken()).values()) == {1}
    assert len(shop.taken()) == 90


def test_what_a_closed_tab_has_left_is_sent_once_by_the_tabs_that_are_there(shop: TrackedShop) -> None:
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


def test_what_another_tab_has_just_queued_is_left_to_it(shop: TrackedShop) -> None:
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
def test_who_asks_not_to_be_tracked_is_not(shop: TrackedShop, signal: str) -> None:
    value = {"globalPrivacyControl": "true", "doNotTrack": "'1'"}[signal]
    page = shop.tab(before=f"Object.defineProperty(Navigator.prototype, '{signal}', {{get: () => {value}}})")
    page.run("anabranch.consent(true); anabranch.identify('u'); anabranch.view('i1')")
    let_it_try(page)
    assert (entries(page), page.run("document.cookie")) == ({}, "")
    assert not shop.recorder.requests


def test_before_consent_nothing_is_stored_or_sent_and_with_it_what_came_before_is(shop: TrackedShop) -> None:
    shop.write_page('data-consent="required"')
    page = shop.tab()
    page.run("anabranch.view('i1'); anabranch.identify('u'); anabranch.view('i2')")
    let_it_try(page)
    assert (entries(page), page.run("document.cookie")) == ({}, "")
    assert not shop.recorder.requests
    page.run("anabranch.consent(true); anabranch.view('i3')")
    events = shop.await_taken(3)
    assert [event["user_id"] for event in events] == [entries(page)["anabranch.id"], "u", "u"]


def test_where_consent_is_withdrawn_nothing_stays_and_nothing_more_is_sent(shop: TrackedShop) -> None:
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
