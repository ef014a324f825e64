"""A shop whose pages have the tracker, in a real browser, and the collector with a publisher in memory."""

from __future__ import annotations

from typing import Any

from tests.support.chromium import Chromium, Page, await_true
from tests.support.collector_server import CollectorServer


class TrackedShop:
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
