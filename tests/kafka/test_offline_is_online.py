"""An offline figure is an online figure: the same slates, through Kafka and without it."""

from __future__ import annotations

from anabranch.ranking.candidates import Policy
from anabranch.ranking.item_ids import ItemIds
from anabranch.ranking.neighbours import NeighbourTable
from anabranch.settings import Settings
from anabranch.topics import Topics
from models.evaluation.protocols import Ranker, show
from models.log import EventLog
from tests.kafka.world import ITEMS, Process, World, purchases
from tests.releases import live_release


def test_a_replay_through_kafka_and_the_offline_run_publish_the_same_slates(settings: Settings, topics: Topics) -> None:
    world = World(settings)
    world.go_live("r1")
    events = purchases(200)
    with Process(settings, "rank", "--start", "earliest"):
        world.publish(events)
        online = {one.cause.event_id: one.slate for one in world.await_rankings(200)}

    item_ids = ItemIds()
    live = live_release(settings.releases_dir / "r1", item_ids, ITEMS)
    offline = Ranker(live, NeighbourTable(), item_ids, Policy())
    shown = show(offline, EventLog.from_events(events, ITEMS), start=0)
    for event, slate in zip(events, shown.slate, strict=True):
        assert [one.item_id for one in online[event.event_id]] == [item_ids.id(row) for row in slate]
