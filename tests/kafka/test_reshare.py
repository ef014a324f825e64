"""The retraining job with a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from anabranch import messages
from anabranch.kafka import clients, release_topic
from anabranch.kafka.release_topic import read_release_notices
from anabranch.kafka.topics import Topics
from anabranch.messages import ReleaseNotice
from anabranch.settings import Settings
from models.retraining.job import JobConfig, run_once
from models.retraining.windows import NotEnoughNewData
from tests.kafka.world import World, purchases


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
        release="r1", status="rejected", ts=1, location="r1", manifest_sha256="", gate_from=0, gate_to=last_gated_ms
    )
    release_topic.announce(settings, notice)

    with pytest.raises(NotEnoughNewData):
        run_once(settings, JobConfig(), no_bar)

    rows = [messages.neighbours.decode(record.value) for record in clients.read_to_end(settings, [topics.neighbours])]
    assert {row.item_id for row in rows} == {event.item_id for event in events}
    assert read_release_notices(settings).newest == {"r1": notice}
