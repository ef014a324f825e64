"""A visitor's browser, the collector and a broker: what a page says is on the topic."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec

from anabranch import messages
from anabranch.http import api_keys, key_file
from anabranch.kafka.topics import Topics
from anabranch.messages import Event
from anabranch.settings import Settings
from tests.kafka.world import Process, World, await_true
from tests.support.chromium import require_chromium, running_chromium


class Shop(ThreadingHTTPServer):
    """A shop whose every page is `html`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Pages)
        self.html = ""
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Answer requests meanwhile."""
        thread = threading.Thread(target=self.serve_forever)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class _Pages(BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.server.html.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def published(world: World) -> list[Event]:
    return [messages.events.decode(record.value) for record in world.records(world.topics.events)]


def test_what_a_page_says_is_on_the_topic_under_its_visitors_id(
    settings: Settings, topics: Topics, tmp_path: Path
) -> None:
    shop, path = Shop(), tmp_path / "keys.json"
    text, key = api_keys.create("page", ["events:write"])
    key_file.add(path, key)
    world = World(msgspec.structs.replace(settings, api_keys_file=path, allowed_origins=shop.url))
    with (
        shop.running(),
        Process(world.settings, "collect", "--port", "0") as collector,
        running_chromium(require_chromium(), tmp_path / "profile") as browser,
    ):
        url = collector.await_log("events are taken at ").split("events are taken at ")[1].removesuffix("/v1/events")
        shop.html = f'<!doctype html><script src="{url}/tracker.js" data-key="{text}"></script>'
        page = browser.new_page(browser.new_visitor())
        page.open(shop.url + "/")
        page.run("anabranch.view('i1'); anabranch.search('tea'); anabranch.purchase(['i2', 'i3'])")
        page.until("!Object.keys(localStorage).some(name => name.startsWith('anabranch.q.'))")
        page.run("anabranch.cart('i4'); location.href = 'about:blank'; 0")
        await_true(lambda: len(published(world)) >= 5, "the event of the page that was left", collector.log)
        assert text not in collector.log.read_text()
    events = published(world)
    assert [(event.type, event.item_id) for event in events] == [
        ("view", "i1"),
        ("search", None),
        ("purchase", "i2"),
        ("purchase", "i3"),
        ("cart", "i4"),
    ]
    assert len({event.user_id for event in events}) == 1
