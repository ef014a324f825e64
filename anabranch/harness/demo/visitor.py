"""One visitor of a shop that calls Anabranch over HTTP: each click, and how soon the slate follows it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from anabranch.client.collector import CollectorClient
from anabranch.client.recommender import RecommenderClient
from anabranch.client.retries import RetryPolicy
from anabranch.harness.environment.processes import ProcessFailed
from anabranch.messages import Event, Item

HOST = "http://127.0.0.1"
VISITOR = "the visitor of the demo"
PATIENCE_S = 30.0
BETWEEN_CLICKS_S = 0.05
ONCE = RetryPolicy(attempts=1)
"""A wait before a second attempt would be measured as the time of the slate."""


@dataclass(frozen=True)
class Services:
    """Ports of 127.0.0.1 on which the services of one demo listen."""

    collect: int
    serve: int


def visit(services: Services, items: Sequence[Item], clicks: int) -> list[float]:
    """Milliseconds from each click, as the visitor sends it, to the answer of the first request whose slate follows it.

    Raises `RequestFailed` if a service answers with an error, `ProcessFailed` if the slate does not follow.
    """
    with (
        CollectorClient(f"{HOST}:{services.collect}", retries=ONCE) as collect,
        RecommenderClient(f"{HOST}:{services.serve}", retries=ONCE) as api,
    ):
        return list(_clicks(collect, api, items, clicks))


def _clicks(collect: CollectorClient, api: RecommenderClient, items: Sequence[Item], clicks: int) -> Iterator[float]:
    for number in range(clicks):
        time.sleep(BETWEEN_CLICKS_S)
        clicked_at_s, now_ms = time.monotonic(), time.time_ns() // 1_000_000
        item_id = items[number % len(items)].item_id
        collect.send([Event(event_id=f"{VISITOR} {number}", user_id=VISITOR, type="click", ts=now_ms, item_id=item_id)])
        while api.recommendations(VISITOR).as_of != now_ms:
            if time.monotonic() - clicked_at_s > PATIENCE_S:
                raise ProcessFailed(f"the slate of `anabranch serve` does not follow a click within {PATIENCE_S:.0f} s")
        yield 1000 * (time.monotonic() - clicked_at_s)
