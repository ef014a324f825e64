"""The release watcher on Kafka in memory: what it queues for the main loop, and when."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from kafka import TopicPartition
from kafka.errors import KafkaConnectionError, KafkaError, LogTruncationError, OffsetOutOfRangeError
from prometheus_client import CollectorRegistry

from anabranch.errors import BackgroundFailure, TopicsDiffer
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics, completion_key, key, vector_key
from anabranch.messages import (
    IndexingComplete,
    ItemVector,
    Neighbours,
    RankedItem,
    ReleaseNotice,
    ReleaseStatus,
    Rule,
    encode,
)
from anabranch.metrics import RankerMetrics
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.release import MANIFEST
from anabranch.settings import Settings
from consumers.releases import release_watcher
from consumers.releases.release_watcher import ReleaseWatcher
from consumers.releases.updates import (
    CoVisitUpdate,
    InvalidItemVectors,
    ItemVectorUpdate,
    RuleUpdate,
    SwapRelease,
    Update,
)
from tests.support.fake_log import FakeConsumer
from tests.support.in_memory_kafka import InMemoryKafka
from tests.support.releases import DIMS, make_unservable, write_release

ITEMS = ("a", "b", "c")
MANY_POLLS = 50
"""More polls than any test has records."""


class World:
    """A watcher, the topics it reads, and releases r1 and r2 (whose parent is r1) on disk."""

    def __init__(self, data_dir: Path) -> None:
        self.settings = Settings(data_dir=data_dir, threads=1)
        self.topics = Topics(self.settings)
        self.kafka = InMemoryKafka()
        self.item_ids = ItemVocabulary()
        self.registry = CollectorRegistry()
        self.consumers: list[FakeConsumer] = []
        write_release(self.settings.releases_dir / "r1", "r1", ITEMS)
        write_release(self.settings.releases_dir / "r2", "r2", ITEMS, seed=1, parent="r1")
        self.watcher = ReleaseWatcher(self.settings, self.item_ids, RankerMetrics(self.registry), self.open_consumer)

    def open_consumer(self, topics: Iterable[str]) -> FakeConsumer:
        self.consumers.append(FakeConsumer(self.kafka, topics))
        return self.consumers[-1]

    def send(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        self.kafka.append(OutboundRecord(topic, key, value))

    def notice(self, release: str, status: ReleaseStatus = "live", parent: str | None = None) -> None:
        manifest = (self.settings.releases_dir / release / MANIFEST).read_bytes()
        sha256 = hashlib.sha256(manifest).hexdigest()
        notice = ReleaseNotice(
            release=release, status=status, ts=1, location=release, manifest_sha256=sha256, parent=parent
        )
        self.send(self.topics.releases, key(release), encode(notice))

    def vectors(self, release: str, item_ids: Sequence[str] = ITEMS, dims: int = DIMS) -> None:
        for item_id in item_ids:
            vector = np.full(dims, 1 + ITEMS.index(item_id), "<f4").tobytes()
            message = ItemVector(item_id=item_id, release=release, vector=vector)
            self.send(self.topics.item_vectors, vector_key(item_id, release), encode(message))

    def complete(self, release: str) -> None:
        message = IndexingComplete(release=release, items=len(ITEMS), ts=1)
        self.send(self.topics.item_vectors, completion_key(release), encode(message))

    def indexed(self, release: str) -> None:
        self.vectors(release)
        self.complete(release)

    def connect(self) -> None:
        """Open the consumer, as the watcher's thread does when it starts."""
        self.consumer = self.watcher.connect()

    def updates(self, polls: int = 5) -> list[Update]:
        """What the main loop gets after so many polls."""
        for _ in range(polls):
            self.watcher.poll(self.consumer)
        return list(self.watcher.take_updates())

    def swaps(self, polls: int = 5) -> list[str]:
        return [update.live.manifest.id for update in self.updates(polls) if isinstance(update, SwapRelease)]

    def skipped(self, topic: str) -> float | None:
        return self.registry.get_sample_value("anabranch_messages_passed_over_total", {"topic": topic})


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(release_watcher.rank, "warm_up", lambda live, policy, layout: None)
    return World(tmp_path)


def serving_r1(world: World) -> World:
    """r1 serves; r2 is neither announced nor indexed."""
    world.notice("r1")
    world.indexed("r1")
    world.connect()
    assert world.swaps() == ["r1"]
    return world


def test_a_notice_makes_an_indexed_release_live_with_all_of_its_items(world: World) -> None:
    world.indexed("r1")
    world.notice("r1")
    world.connect()
    (swap,) = world.updates()
    assert isinstance(swap, SwapRelease)
    assert swap.live.manifest.id == "r1"
    assert len(swap.live.index) == len(ITEMS)


def test_a_release_without_a_live_notice_is_not_queued(world: World) -> None:
    world.notice("r1", "candidate")
    world.indexed("r1")
    world.connect()
    assert world.updates() == []
    assert "a live release" in world.watcher.waiting_for


def test_vectors_that_come_before_their_notice_are_kept(world: World) -> None:
    serving_r1(world)
    world.indexed("r2")
    assert world.updates() == []
    world.notice("r2", parent="r1")
    (swap,) = world.updates()
    assert isinstance(swap, SwapRelease)
    assert (swap.live.manifest.id, len(swap.live.index)) == ("r2", len(ITEMS))


def test_a_release_is_not_queued_before_its_indexing_is_complete(world: World) -> None:
    world.notice("r1")
    world.vectors("r1")
    world.connect()
    assert world.updates() == []
    assert "all item vectors of release r1" in world.watcher.waiting_for
    world.complete("r1")
    assert world.swaps() == ["r1"]


def test_a_release_is_queued_only_once_the_end_offsets_at_its_completion_are_reached(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_watcher, "MAX_POLL_RECORDS", 2)
    world.notice("r1")
    world.connect()
    assert world.updates() == []
    world.complete("r1")
    world.vectors("r1", ["a", "b", "c"])  # another partition's vectors may come after the message
    assert world.swaps(polls=1) == []
    (swap,) = world.updates()
    assert isinstance(swap, SwapRelease)
    assert len(swap.live.index) == len(ITEMS)


def test_the_first_release_waits_for_the_neighbours_in_the_topic_at_the_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_watcher, "MAX_POLL_RECORDS", 1)
    world.notice("r1")
    world.indexed("r1")
    near = [RankedItem("b", 0.5)]
    for item_id in ITEMS:
        message = Neighbours(item_id=item_id, neighbours=near, popularity=0.1, first_seen=1, ts=1)
        world.send(world.topics.neighbours, key(item_id), encode(message))
    world.connect()
    kinds = [type(update) for update in world.updates(polls=MANY_POLLS)]
    assert kinds == [CoVisitUpdate] * len(ITEMS) + [SwapRelease]


def test_the_age_of_the_co_visit_table_is_that_of_its_newest_row(world: World) -> None:
    """Every retraining run publishes the table: this is its sign of life that needs no scrape of the job."""
    assert world.registry.get_sample_value("anabranch_co_visits_timestamp_seconds") == 0
    for ts in (2_000, 7_000, 3_000):
        message = Neighbours(item_id=f"i{ts}", neighbours=[], popularity=0.1, first_seen=1, ts=ts)
        world.send(world.topics.neighbours, key(message.item_id), encode(message))
    world.send(world.topics.neighbours, key("i2000"), None)
    world.connect()
    world.updates(polls=MANY_POLLS)
    assert world.registry.get_sample_value("anabranch_co_visits_timestamp_seconds") == 7


def test_the_parent_serves_until_the_live_release_is_indexed(world: World) -> None:
    world.notice("r1", "retired")
    world.notice("r2", parent="r1")
    world.indexed("r1")
    world.connect()
    assert world.swaps() == ["r1"]
    world.indexed("r2")
    assert world.swaps() == ["r2"]


def test_the_parent_does_not_serve_where_the_live_release_is_indexed(world: World) -> None:
    world.notice("r1", "retired")
    world.notice("r2", parent="r1")
    world.indexed("r1")
    world.indexed("r2")
    world.connect()
    assert world.swaps(polls=MANY_POLLS) == ["r2"]


def test_a_process_that_serves_a_release_keeps_it_until_the_live_one_is_indexed(world: World) -> None:
    write_release(world.settings.releases_dir / "r0", "r0", ITEMS)
    serving_r1(world)
    world.notice("r0", "candidate")
    world.indexed("r0")
    world.notice("r2", parent="r0")
    assert world.swaps() == []


def test_a_swap_goes_to_the_next_release_once_and_not_back(world: World) -> None:
    serving_r1(world)
    world.notice("r2", parent="r1")
    world.notice("r1", "retired")
    world.indexed("r2")
    assert world.swaps(polls=MANY_POLLS) == ["r2"]


def test_a_roll_back_reads_the_discarded_vectors_again(world: World) -> None:
    serving_r1(world)
    world.notice("r2", parent="r1")
    world.indexed("r2")
    assert world.swaps() == ["r2"]
    world.notice("r1")
    (swap,) = (update for update in world.updates(polls=MANY_POLLS) if isinstance(update, SwapRelease))
    assert (swap.live.manifest.id, len(swap.live.index)) == ("r1", len(ITEMS))


def test_vectors_of_retired_and_rejected_releases_are_not_kept(world: World) -> None:
    world.notice("r1", "retired")
    world.notice("r2", "rejected")
    world.indexed("r1")
    world.indexed("r2")
    world.connect()
    world.updates()
    assert world.watcher._staged.releases == frozenset()


def test_vectors_kept_of_a_candidate_are_dropped_when_it_is_rejected(world: World) -> None:
    serving_r1(world)
    world.vectors("r2")
    world.updates()
    assert world.watcher._staged.releases == {"r2"}
    world.notice("r2", "rejected")
    world.updates()
    assert world.watcher._staged.releases == frozenset()


def test_an_item_of_the_serving_release_is_queued_for_its_index(world: World) -> None:
    serving_r1(world)
    world.vectors("r1", ["b"])
    world.send(world.topics.item_vectors, vector_key("a", "r1"), None)
    (update,) = world.updates()
    assert isinstance(update, ItemVectorUpdate)
    assert update.rows.tolist() == [world.item_ids.row("b")]
    assert update.removed.tolist() == [world.item_ids.row("a")]


def test_a_live_release_that_is_retired_serves_on_and_takes_its_items(world: World) -> None:
    serving_r1(world)
    world.notice("r1", "retired")
    assert world.updates() == []
    world.vectors("r1", ["b"])
    assert [type(update) for update in world.updates()] == [ItemVectorUpdate]


def test_unreadable_records_are_counted_and_skipped(world: World) -> None:
    topics = (world.topics.releases, world.topics.item_vectors, world.topics.neighbours)
    for topic in topics:
        world.send(topic, b"key", b"junk")
    serving_r1(world)
    assert world.skipped(world.topics.item_vectors) == 1
    assert world.skipped(world.topics.neighbours) == 1
    assert world.skipped(world.topics.releases) == 2  # before the vectors are read, and with them


def test_vectors_of_other_dims_than_their_release_end_the_watcher(world: World) -> None:
    world.notice("r1")
    world.vectors("r1", dims=DIMS + 1)
    world.complete("r1")
    world.connect()
    with pytest.raises(InvalidItemVectors, match=f"r1 has {DIMS} dims, but item vectors of {DIMS + 1}"):
        world.updates()


def test_updates_are_taken_oldest_first_and_no_more_than_the_limit(world: World) -> None:
    serving_r1(world)
    for item_id in ITEMS:
        world.vectors("r1", [item_id])
        world.watcher.poll(world.consumer)
    taken = [update for update in world.watcher.take_updates(limit=2) if isinstance(update, ItemVectorUpdate)]
    assert [update.rows.tolist() for update in taken] == [[world.item_ids.row(item_id)] for item_id in ("a", "b")]
    assert len(list(world.watcher.take_updates())) == 1


def until(condition: object, watcher: ReleaseWatcher) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 10
    while not condition():
        watcher.raise_failure()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "error",
    [
        KafkaConnectionError("lost"),
        OffsetOutOfRangeError({TopicPartition("releases", 0): 7}),
        LogTruncationError({TopicPartition("releases", 0): None}),
    ],
)
def test_the_thread_reads_all_again_after_a_lost_connection_or_position(
    world: World, monkeypatch: pytest.MonkeyPatch, error: KafkaError
) -> None:
    monkeypatch.setattr(release_watcher, "RECONNECT_DELAY_S", 0.01)
    world.watcher.start()
    until(lambda: len(world.consumers) == 2, world.watcher)
    world.consumers[1].error = error
    until(lambda: len(world.consumers) == 4, world.watcher)
    assert world.consumers[1].closed
    world.watcher.close()


def test_an_error_that_ends_the_thread_is_raised_in_the_main_loop(world: World) -> None:
    world.watcher.start()
    until(lambda: len(world.consumers) == 2, world.watcher)
    world.consumers[1].error = RuntimeError("broken")
    with pytest.raises(BackgroundFailure, match="broken"):
        until(lambda: False, world.watcher)
    world.watcher.close()


def test_a_live_release_of_another_version_leaves_the_serving_one_in_place_with_one_line(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """As on rankers of the version before, while a roll-out is under way."""
    make_unservable(world.settings.releases_dir / "r2")
    serving_r1(world)
    world.notice("r2", parent="r1")
    world.notice("r1", "retired")
    world.indexed("r2")
    assert world.swaps(polls=MANY_POLLS) == []
    [line] = [record.message for record in caplog.records if "cannot serve here" in record.message]
    assert "release r2 cannot serve here, and release r1 serves on" in line
    assert "run `anabranch reshare` of this version, or rank with the version of the release" in line
    assert world.watcher.is_unservable("r2")
    assert not world.watcher.is_unservable("r1")
    announced = {entry.notice.release: entry for entry in world.watcher.announced()}
    assert announced["r1"].problem is None
    assert "which this version does not build" in (announced["r2"].problem or "")


def test_a_release_that_serves_on_takes_its_items_also_those_that_came_before_its_successor_failed(
    world: World,
) -> None:
    make_unservable(world.settings.releases_dir / "r2")
    serving_r1(world)
    world.notice("r2", parent="r1")
    world.vectors("r1", ["b"])
    world.indexed("r2")
    updates = [update for update in world.updates(polls=MANY_POLLS) if isinstance(update, ItemVectorUpdate)]
    assert world.item_ids.row("b") in np.concatenate([update.rows for update in updates])
    world.vectors("r1", ["c"])
    assert [type(update) for update in world.updates()] == [ItemVectorUpdate]


def test_after_a_release_that_cannot_serve_the_next_that_can_is_swapped_in(world: World) -> None:
    make_unservable(world.settings.releases_dir / "r2")
    write_release(world.settings.releases_dir / "r3", "r3", ITEMS, seed=3)
    serving_r1(world)
    world.notice("r2", parent="r1")
    world.indexed("r2")
    assert world.swaps() == []
    world.notice("r3", parent="r2")
    world.indexed("r3")
    assert world.swaps(polls=MANY_POLLS) == ["r3"]


def test_a_process_that_starts_with_a_live_release_of_another_version_serves_its_parent(world: World) -> None:
    make_unservable(world.settings.releases_dir / "r2")
    world.notice("r1", "retired")
    world.notice("r2", parent="r1")
    world.indexed("r1")
    world.indexed("r2")
    world.connect()
    assert world.swaps(polls=MANY_POLLS) == ["r1"]


def test_a_parent_that_cannot_serve_is_passed_over_until_the_live_release_is_indexed(world: World) -> None:
    """As on rankers of the new version."""
    make_unservable(world.settings.releases_dir / "r1")
    world.notice("r1", "retired")
    world.notice("r2", parent="r1")
    world.indexed("r1")
    world.connect()
    assert world.swaps(polls=MANY_POLLS) == []
    world.indexed("r2")
    assert world.swaps(polls=MANY_POLLS) == ["r2"]


def test_a_release_whose_files_are_missing_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = world.settings.releases_dir / "r1"
    world.notice("r1")
    world.indexed("r1")
    folder.rename(folder.with_name("elsewhere"))
    world.connect()
    assert world.swaps(polls=MANY_POLLS) == []
    assert "another release, for r1 cannot serve" in world.watcher.waiting_for
    assert "is releases_dir the folder that" in world.watcher.waiting_for
    folder.with_name("elsewhere").rename(folder)
    assert world.swaps() == [], "not at every poll"
    monkeypatch.setattr(world.watcher, "_retry_at", 0.0)
    (swap,) = world.updates()
    assert isinstance(swap, SwapRelease)
    assert len(swap.live.index) == len(ITEMS)
    assert not world.watcher.is_unservable("r1")


@pytest.mark.parametrize("name", ["item-vectors", "neighbours"])
def test_partitions_added_to_a_topic_of_items_end_the_watcher_with_the_remedy(world: World, name: str) -> None:
    serving_r1(world)
    world.consumer.partitions_of[name] = {0, 1}
    with pytest.raises(TopicsDiffer, match=rf"{name} has 2 partitions, not 1.*`anabranch topics provision`"):
        world.updates()


def test_rules_are_queued_before_the_first_release_is_and_as_they_change(world: World) -> None:
    rule = Rule(rule_id="r", action="hide", items=["a", "new"])
    world.send(world.topics.rules, key("r"), encode(rule))
    world.notice("r1")
    world.indexed("r1")
    world.connect()
    put, swap = world.updates()
    assert isinstance(put, RuleUpdate)
    assert isinstance(swap, SwapRelease)
    assert put.rule is not None
    assert put.rule.rule == rule
    assert put.rule.rows.tolist() == world.item_ids.rows(["a", "new"]).tolist()
    world.send(world.topics.rules, key("r"), None)
    assert world.updates() == [RuleUpdate("r", None)]


@pytest.mark.parametrize(
    "value", [b'{"rule_id":"r","action":"hide"}', b'{"rule_id":"q","action":"hide","brands":["b"]}']
)
def test_what_is_no_rule_or_under_another_key_is_counted_and_skipped(world: World, value: bytes) -> None:
    serving_r1(world)
    world.send(world.topics.rules, key("r"), value)
    assert world.updates() == []
    assert world.skipped("rules") == 1
