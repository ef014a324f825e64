"""The load on the collector: what it counts is what was taken."""

from __future__ import annotations

import pytest

from anabranch.harness.bench.event_load import EventLoad, NotTaken, send
from tests.support.collector_server import CollectorServer


def test_every_event_that_a_load_counts_was_taken_and_its_ids_are_unique() -> None:
    server = CollectorServer(None)
    with server.running():
        acknowledged = send(EventLoad(int(server.url.rsplit(":", 1)[1]), connections=3, batch=7, seconds=0.2))
    taken = [event.event_id for event in server.publisher.events]
    assert len(set(taken)) == len(taken) == acknowledged.all_events
    assert 0 < acknowledged.events < acknowledged.all_events
    assert acknowledged.events == 7 * len(acknowledged.latencies_ms)


def test_an_answer_that_is_no_202_ends_the_load() -> None:
    server = CollectorServer(None)
    server.publisher.broken = True
    with server.running(), pytest.raises(NotTaken, match="503"):
        send(EventLoad(int(server.url.rsplit(":", 1)[1]), connections=2, batch=2, seconds=5))
