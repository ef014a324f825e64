"""Processes without events, on a real broker: they sleep, and an event wakes them at once."""

from __future__ import annotations

import time
from statistics import median

import psutil
import pytest

from anabranch import messages
from anabranch.kafka.clients import IDLE_WAIT_MS
from anabranch.kafka.topics import Topics
from anabranch.messages import Item
from anabranch.settings import Settings
from tests.kafka.world import ITEMS, Process, Scrape, World, await_true, purchases

SETTLE_S, MEASURED_S = 2.0, 6.0
MAX_WAKE_UPS_PER_S = 80
"""Of the main thread: some 40 where polls wait for `IDLE_WAIT_MS`, 135 where they wait for `BUSY_WAIT_MS`. Other load
does not change their number, as it does the CPU time, which `anabranch bench idle` holds against a bound."""
EVENTS = 9
MAX_MEDIAN_MS = IDLE_WAIT_MS / 4
"""If events waited for the end of a poll, the median of their delays would be half of `IDLE_WAIT_MS`."""


@pytest.fixture
def world(settings: Settings, topics: Topics) -> World:
    return World(settings)


def wake_ups_per_s(process: Process, seconds: float) -> float:
    """How often the main thread of a process gave up the CPU by itself, to wait, per second of the next `seconds`."""
    measured = psutil.Process(process.pid)
    before, started = measured.num_ctx_switches().voluntary, time.monotonic()
    time.sleep(seconds)
    return (measured.num_ctx_switches().voluntary - before) / (time.monotonic() - started)


def test_an_idle_ranker_sleeps_and_ranks_the_next_event_at_once(world: World) -> None:
    world.go_live("r1")
    with Process(world.settings, "rank", "--start", "earliest", "--metrics-port", "0") as ranker:
        world.publish(purchases(10))
        world.await_rankings(10)
        time.sleep(SETTLE_S)
        assert wake_ups_per_s(ranker, MEASURED_S) < MAX_WAKE_UPS_PER_S
        for number in range(EVENTS):
            time.sleep(0.2)
            world.publish(purchases(1, first=10 + number))
        world.await_rankings(10 + EVENTS)
        metrics = Scrape.of(ranker)
        await_true(lambda: metrics.value("anabranch_events_total") == 10 + EVENTS, "the commits to be counted")
        lag = [metrics.value("anabranch_consumer_lag", topic=world.topics.events, partition=str(n)) for n in (0, 1)]
        assert lag == [0, 0]
    assert median(delays_ms(world)) < MAX_MEDIAN_MS, "an event does not wait for the end of a poll"


def delays_ms(world: World) -> list[int]:
    """From the append of each of the last events to that of its ranking."""
    appended = {(record.partition, record.offset): record.timestamp for record in world.records(world.topics.events)}
    delays = []
    for record in world.records(world.topics.rankings):
        cause = messages.rankings.decode(record.value).cause
        if int(cause.event_id[1:]) >= 10:
            delays.append(record.timestamp - appended[cause.partition, cause.offset])
    return delays


def test_an_idle_indexer_sleeps_and_embeds_the_next_item_at_once(world: World) -> None:
    world.announce("r1")
    world.publish_items([Item(item_id=item_id, title=item_id) for item_id in ITEMS])
    with Process(world.settings, "index") as indexer:
        indexer.await_log("indexing of release r1 is complete")
        time.sleep(SETTLE_S)
        assert wake_ups_per_s(indexer, MEASURED_S) < MAX_WAKE_UPS_PER_S
        for number in range(EVENTS):
            world.publish_items([Item(item_id=f"new {number}", title="new")])
            await_true(lambda number=number: appended_ms(world, f"new {number}"), "its vector")
    delays = [appended_ms(world, f"new {number}") - published_ms(world, f"new {number}") for number in range(EVENTS)]
    assert median(delays) < MAX_MEDIAN_MS, "an item does not wait for the end of a poll"


def appended_ms(world: World, item_id: str) -> int:
    """When the vector of an item was appended; 0 if it was not yet."""
    records = world.records(world.topics.item_vectors)
    return next((record.timestamp for record in records if item_id.encode() in record.key), 0)


def published_ms(world: World, item_id: str) -> int:
    """When an item was appended."""
    return next(record.timestamp for record in world.records(world.topics.items) if record.key == item_id.encode())
