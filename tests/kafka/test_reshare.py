"""The retraining job with a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from anabranch import messages, release
from anabranch.kafka import clients, release_topic
from anabranch.kafka.release_topic import read_release_notices
from anabranch.kafka.topics import Topics
from anabranch.messages import Item, ReleaseNotice
from anabranch.settings import Settings
from models.retraining.job import JobConfig, run_once
from models.retraining.windows import NotEnoughData, NotEnoughNewData
from tests.kafka.world import ITEMS, Process, World, purchases


@contextmanager
def no_bar(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    yield lambda n: None


def test_without_enough_new_events_for_the_gate_only_the_co_visit_table_is_published(
    settings: Settings, topics: Topics
) -> None:
    events = purchases(20, users=2)
    World(settings).publish(events)
    last_gated_ms = max(event.ts for event in events) + 1
    notice = ReleaseNotice(
        release="r1", status="retired", ts=1, location="r1", manifest_sha256="", gate_from=0, gate_to=last_gated_ms
    )
    release_topic.announce(settings, notice)

    with pytest.raises(NotEnoughNewData):
        run_once(settings, JobConfig(), no_bar)

    rows = [messages.neighbours.decode(record.value) for record in clients.read_to_end(settings, [topics.neighbours])]
    assert {row.item_id for row in rows} == {event.item_id for event in events}
    assert read_release_notices(settings).newest == {"r1": notice}


def test_where_nothing_serves_a_run_makes_a_release_that_does_and_says_what_a_trained_one_lacks(
    settings: Settings, topics: Topics
) -> None:
    world = World(settings)
    world.publish_items([Item(item_id=item_id, title=f"thing {item_id}") for item_id in ITEMS])

    result = run_once(settings, JobConfig(), no_bar)

    assert result.gated is None
    assert result.waiting_for == "there are no events to train on: publish some to `events` first"
    live = read_release_notices(settings).live
    assert live == result.bootstrap
    assert live is not None
    manifest = release.open_announced(settings.releases_dir, live).manifest
    assert manifest.is_bootstrap
    assert manifest.strategy["measured"]["items"] == len(ITEMS)
    assert live.gate_to is None, "the gate's window is not used up"
    assert not world.records(topics.neighbours), "there is no event yet"


def test_a_second_run_makes_no_second_bootstrap_release_and_a_ranker_serves_the_first(
    settings: Settings, topics: Topics
) -> None:
    world = World(settings)
    world.publish_items([Item(item_id=item_id, title=f"thing {item_id}") for item_id in ITEMS])
    events = purchases(30)
    world.publish(events)
    assert run_once(settings, JobConfig(), no_bar).bootstrap is not None
    assert len(world.records(topics.neighbours)) == len({event.item_id for event in events})

    with pytest.raises(NotEnoughData):
        run_once(settings, JobConfig(), no_bar)
    with Process(settings, "index"), Process(settings, "rank", "--start", "earliest"):
        rankings = world.await_rankings(len(events))

    assert [notice.status for notice in read_release_notices(settings).newest.values()] == ["live"]
    assert {ranking.release for ranking in rankings} == {"r0001"}
    assert all(ranking.slate for ranking in rankings)


def test_after_a_release_was_retired_by_hand_no_bootstrap_release_takes_its_place(
    settings: Settings, topics: Topics
) -> None:
    retired = ReleaseNotice(release="r1", status="retired", ts=1, location="r1", manifest_sha256="")
    release_topic.announce(settings, retired)
    with pytest.raises(NotEnoughData):
        run_once(settings, JobConfig(), no_bar)
    assert read_release_notices(settings).newest == {"r1": retired}
