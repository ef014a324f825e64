"""The neighbours job as a separate process, on a real broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import msgspec
import numpy as np
import pytest
from kafka import KafkaAdminClient, TopicPartition

from anabranch import messages, release
from anabranch.co_visit import text_prior
from anabranch.co_visit.shard import Shard
from anabranch.co_visit.text_prior import TextPrior
from anabranch.co_visit_rule import CoVisitRule
from anabranch.kafka import offsets
from anabranch.kafka.topics import Topics
from anabranch.messages import Event, Neighbours
from anabranch.settings import Settings
from models.co_visit.model import CoVisitModel
from models.data.event_log import EventLog
from tests.kafka.world import Process, Scrape, World, await_true
from tests.support.releases import write_release

BASKETS = 40


@pytest.fixture
def world(settings: Settings, topics: Topics) -> World:
    return World(msgspec.structs.replace(settings, live_neighbours=True, min_pair_users=1))


def baskets(first: int, count: int) -> list[Event]:
    """Baskets of three of twelve items, of one of ten users each, a minute apart."""
    random = np.random.default_rng(first)
    events = []
    for number in range(first, first + count):
        for place, item in enumerate(random.choice(12, 3, replace=False).tolist()):
            events.append(basket_event(number, f"u{number % 10}", f"i{item}", place))
    return events


def basket_event(basket: int, user: str, item_id: str, place: int = 0) -> Event:
    return Event(
        event_id=f"b{basket}-{place}",
        user_id=user,
        type="purchase",
        item_id=item_id,
        ts=1_700_000_000_000 + 60_000 * basket + place,
        session_id=f"b{basket}",
    )


def rows(world: World) -> dict[str, Neighbours]:
    """The newest row of each item."""
    published = (messages.neighbours.decode(record.value) for record in world.records(world.topics.neighbours))
    return {row.item_id: row for row in published}


def counted(events: Sequence[Event], rule: CoVisitRule) -> dict[str, dict[str, float]]:
    """The neighbours of each item, and their shares, of a model that learned these events."""
    log = EventLog.from_events(sorted(events, key=lambda event: event.ts))
    table = CoVisitModel(rule).fit(log).table()
    names = log.item_ids
    return {
        names[item]: {names[other]: share for other, share in zip(near, shares, strict=True) if other >= 0}
        for item, near, shares in zip(table.item.tolist(), table.neighbours.tolist(), table.share.tolist(), strict=True)
    }


def is_of(events: Sequence[Event], world: World) -> bool:
    """Whether the published table is that of these events, each counted once, but for changes too small to publish."""
    expected, published = counted(events, replace(CoVisitRule(), min_users=1)), rows(world)
    if expected.keys() != published.keys():
        return False
    for item_id, shares in expected.items():
        row = {neighbour.item_id: neighbour.score for neighbour in published[item_id].neighbours}
        moved = sum(abs(shares.get(other, 0.0) - row.get(other, 0.0)) for other in shares.keys() | row.keys())
        if moved > 0.05 * sum(shares.values()):
            return False
    return True


def test_a_killed_job_goes_on_from_what_it_saved_and_counts_every_event_once(world: World) -> None:
    world.announce("r1")
    first, second, third = (baskets(number * BASKETS, BASKETS) for number in range(3))
    world.publish(first)
    with Process(world.settings, "neighbours") as job:
        await_true(lambda: is_of(first, world), "the table of the first events", job.log)
        assert job.terminate() == 0  # it saves
    world.publish(second)
    with Process(world.settings, "neighbours", "--metrics-port", "0") as job:
        await_true(lambda: is_of([*first, *second], world), "the table with the second events", job.log)
        assert "items restored" in job.log.read_text()
        assert Scrape.of(job).value("anabranch_neighbours_events_total") == len(second)
        job.kill()  # it does not save: the second events are counted again, from the save before
    world.publish([*third, *third])
    with Process(world.settings, "neighbours", "--metrics-port", "0") as job:
        await_true(lambda: is_of([*first, *second, *third], world), "the table of all events", job.log)
        scrape = Scrape.of(job)
        assert scrape.value("anabranch_neighbours_events_total") == len(second) + len(third)


def test_an_item_that_starts_to_sell_comes_into_its_neighbours_rows(world: World) -> None:
    world.announce("r1")
    world.publish(baskets(0, BASKETS))
    with Process(world.settings, "neighbours") as job:
        await_true(lambda: "i0" in rows(world), "a table", job.log)
        for user in range(9):
            world.publish([basket_event(1000 + user, f"u{user}", item, n) for n, item in enumerate(("new", "i0"))])
        await_true(
            lambda: "new" in {neighbour.item_id for row in [rows(world)["i0"]] for neighbour in row.neighbours},
            "the new item among the neighbours of i0",
            job.log,
        )
        assert rows(world)["new"].neighbours[0].item_id == "i0"


def test_a_release_of_another_rule_makes_it_count_anew_by_that_rule(world: World) -> None:
    world.announce("r1")
    events = baskets(0, BASKETS)
    world.publish(events)
    with Process(world.settings, "neighbours") as job:
        await_true(lambda: is_of(events, world), "the table by the rule of the first release", job.log)
        world.announce("r2", co_visits=CoVisitRule(across=0.0, window=1, min_users=1))
        by_new_rule = counted(events, CoVisitRule(across=0.0, window=1, min_users=1))
        await_true(
            lambda: all(len(row.neighbours) == len(by_new_rule[item]) for item, row in rows(world).items()),
            "the table by the rule of the second release",
            job.log,
        )


def test_counting_anew_from_a_shorter_log_an_item_is_not_taken_for_another_that_had_its_number(
    world: World, admin: KafkaAdminClient
) -> None:
    """Rows of too few users are all alike: they have no neighbours and no popularity."""
    private = CoVisitRule(min_users=5)
    world.announce("r1", co_visits=private)
    world.publish([basket_event(n, "u", f"early {n}") for n in range(20)])
    with Process(world.settings, "neighbours") as job:
        await_true(lambda: len(rows(world)) == 20, "a row of each item", job.log)
        ends = offsets.ends(world.settings, world.topics.events)
        admin.delete_records({TopicPartition(world.topics.events, number): end for number, end in ends.items()})
        world.announce("r2", co_visits=replace(private, across=0.5))
        job.await_log("co-visits are counted by the rule of release r2")
        world.publish([basket_event(100, "u", "late")])
        await_true(lambda: "late" in rows(world), "a row of the new item", job.log)


def write_with_texts(world: World, name: str, near: str, rule: CoVisitRule) -> None:
    """A release by whose texts every item of the baskets is near one item, which nobody buys."""
    folder, item_ids = world.settings.releases_dir / name, [*(f"i{n}" for n in range(12)), near]
    manifest = write_release(folder, name, item_ids, co_visits=rule)
    item = np.where(np.arange(13) < 12, 12, -1).astype(np.int32)[:, None]
    text_prior.write(folder, item_ids, TextPrior(item, (item >= 0).astype(np.float32)))
    release.write(folder, msgspec.structs.replace(manifest, files=release.digests(folder)))


def test_rows_have_the_text_neighbours_of_the_live_release(world: World) -> None:
    rule, items = CoVisitRule(min_users=1, text_prior=50.0), {f"i{n}" for n in range(12)}
    write_with_texts(world, "r1", "unsold", rule)
    write_with_texts(world, "r2", "other", rule)
    world.announce("r1")
    world.publish(baskets(0, BASKETS))

    def nearest() -> dict[str, str]:
        return {item: row.neighbours[0].item_id for item, row in rows(world).items()}

    with Process(world.settings, "neighbours") as job:
        await_true(lambda: nearest() == dict.fromkeys(items, "unsold"), "the text neighbours of the release", job.log)
        world.announce("r2")
        await_true(lambda: nearest() == dict.fromkeys(items, "other"), "those of the next release", job.log)


def of_shard(world: World, number: int, shards: int) -> Settings:
    return msgspec.structs.replace(world.settings, neighbours_shard=number, neighbours_shards=shards)


def items_of_shards(world: World, events: Sequence[Event], new_events: int) -> list[float]:
    """The items of either of two shards, whose jobs count so many new events, and publish the table of all events."""
    with (
        Process(of_shard(world, 0, 2), "neighbours", "--metrics-port", "0") as job,
        Process(of_shard(world, 1, 2), "neighbours", "--metrics-port", "0") as other,
    ):
        scrapes = [Scrape.of(job), Scrape.of(other)]
        await_true(
            lambda: all(scrape.value("anabranch_neighbours_events_total") == new_events for scrape in scrapes),
            "either job has counted the new events",
            other.log,
        )
        await_true(lambda: is_of(events, world), "the table of all events", job.log)
        items = [scrape.value("anabranch_neighbours_items") for scrape in scrapes]
        assert job.terminate() == other.terminate() == 0  # they save
    return items


def test_the_jobs_of_two_shards_publish_together_the_table_of_one_and_each_goes_on_from_its_file(world: World) -> None:
    world.announce("r1")
    first, second = baskets(0, BASKETS), baskets(BASKETS, BASKETS)
    items = {str(event.item_id) for event in first}
    expected = [sum(Shard(number, 2).has(item) for item in items) for number in range(2)]
    world.publish(first)
    assert items_of_shards(world, first, len(first)) == expected
    world.publish(second)
    assert items_of_shards(world, [*first, *second], len(second)) == expected
    with Process(of_shard(world, 1, 3), "neighbours") as job:
        job.await_log("has the counts of shard 1 of 2, and this is shard 1 of 3: all events")


def test_of_two_jobs_of_the_same_shard_one_ends_with_an_error_that_names_the_remedy(world: World) -> None:
    world.announce("r1")
    with (
        Process(of_shard(world, 1, 2), "neighbours") as job,
        Process(of_shard(world, 1, 2), "neighbours") as other,
    ):
        numbers = count()

        def one_ended() -> bool:
            number = next(numbers)  # its rows are new, so that both jobs publish
            world.publish([basket_event(number, "u", f"new {number} {place}", place) for place in range(8)])
            return job.ended or other.ended

        await_true(one_ended, "one of the two ends", job.log)
        log = (job if job.ended else other).log.read_text()
        assert f"transactional id {world.settings.group('neighbours')}-1" in log
        assert "give each a `neighbours_shard` of its own" in log


def test_it_refuses_to_run_where_the_retraining_job_publishes_the_table(world: World) -> None:
    with Process(msgspec.structs.replace(world.settings, live_neighbours=False), "neighbours") as job:
        assert job.wait() == 2
        assert "ANABRANCH_LIVE_NEIGHBOURS=true" in job.log.read_text()
