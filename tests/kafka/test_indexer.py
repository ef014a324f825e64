"""The indexer as a separate process, on a real broker."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient

from anabranch import messages
from anabranch.input_files.items import RemovedItem
from anabranch.kafka import offsets, topics
from anabranch.kafka.topics import Topics
from anabranch.messages import IndexingComplete, Item, ItemVector
from anabranch.settings import Settings
from anabranch.text_embedding_cache import FOLDER
from tests.kafka.world import ITEMS, Process, Scrape, World, await_true

CATALOGUE = [Item(item_id=item_id, title=f"title of {item_id}", category=["GROCERY"]) for item_id in ITEMS]


@pytest.fixture
def world(settings: Settings, topics: Topics) -> World:
    return World(settings)


def vectors(world: World, release: str = "r1") -> dict[str, ItemVector]:
    """The newest vector of each item, as a ranker has them after reading the topic."""
    newest: dict[str, ItemVector] = {}
    for record in world.records(world.topics.item_vectors):
        item_id, release_name = topics.split_vector_key(record.key)
        if release_name != release or not item_id:
            continue
        message = None if record.value is None else messages.item_vectors.decode(record.value)
        newest.pop(item_id, None)
        if isinstance(message, ItemVector):
            newest[item_id] = message
    return newest


def completion(world: World, release: str = "r1") -> IndexingComplete | None:
    newest = None
    for record in world.records(world.topics.item_vectors):
        if record.key == topics.completion_key(release):
            newest = messages.item_vectors.decode(record.value)
    assert newest is None or isinstance(newest, IndexingComplete)
    return newest


def test_every_item_gets_a_vector_and_then_indexing_is_complete(world: World) -> None:
    world.publish_items(CATALOGUE)
    world.announce("r1")
    with Process(world.settings, "index") as indexer:
        await_true(lambda: completion(world) is not None, "the end of indexing", indexer.log)
        assert indexer.terminate() == 0
    complete = completion(world)
    assert complete is not None
    assert complete.items == len(vectors(world)) == len(ITEMS)
    assert len({message.vector for message in vectors(world).values()}) == len(ITEMS)
    assert [message.category for message in vectors(world).values()] == len(ITEMS) * [["GROCERY"]]


def test_a_new_item_gets_a_vector_and_a_removed_item_a_tombstone(world: World) -> None:
    world.publish_items(CATALOGUE)
    world.announce("r1")
    with Process(world.settings, "index") as indexer:
        await_true(lambda: completion(world) is not None, "the end of indexing", indexer.log)
        world.publish_items([Item(item_id="new", title="brand new"), Item(item_id="i1", title="gone", available=False)])
        await_true(lambda: "new" in vectors(world), "the new item's vector", indexer.log)
        await_true(lambda: not vectors(world)["i1"].available, "an item out of stock", indexer.log)
        world.publish_items([RemovedItem("new")])
        await_true(lambda: "new" not in vectors(world), "the tombstone", indexer.log)


def test_a_restart_publishes_only_what_differs(world: World) -> None:
    world.publish_items(CATALOGUE)
    world.announce("r1")
    with Process(world.settings, "index") as indexer:
        await_true(lambda: completion(world) is not None, "the end of indexing", indexer.log)
        indexer.kill()
    world.publish_items([RemovedItem("i0"), Item(item_id="i1", title="another title")])
    with Process(world.settings, "index", "--metrics-port", "0") as indexer:
        indexer.await_log("is complete")
        scrape = Scrape.of(indexer)
        assert scrape.value("anabranch_item_vectors_total") == 1
        assert scrape.value("anabranch_item_vectors_removed_total") == 1
    assert len(vectors(world)) == len(ITEMS) - 1


def test_a_new_release_gets_all_vectors_and_no_text_is_embedded_again(world: World) -> None:
    world.publish_items(CATALOGUE)
    world.announce("r1", seed=1)
    with Process(world.settings, "index") as indexer:
        await_true(lambda: completion(world, "r1") is not None, "the end of indexing r1", indexer.log)
        sizes_before = sizes(world.settings.data_dir / FOLDER)
        other_item_encoder(world, "r2")
        await_true(lambda: completion(world, "r2") is not None, "the end of indexing r2", indexer.log)
    assert len(vectors(world, "r2")) == len(ITEMS)
    assert vectors(world, "r1")["i1"].vector != vectors(world, "r2")["i1"].vector
    assert sizes(world.settings.data_dir / FOLDER) == sizes_before


def other_item_encoder(world: World, name: str) -> None:
    """Announce a release with the text transformer of r1 and another item encoder, as the retraining job makes them."""
    from anabranch import release
    from tests.support.releases import write_release

    r1, folder = world.settings.releases_dir / "r1", world.settings.releases_dir / name
    manifest = write_release(folder, name, ITEMS, seed=2)
    for file in ("text.onnx", "tokenizer.json"):
        (folder / file).write_bytes((r1 / file).read_bytes())
    files = release.digests(folder)
    release.write(
        folder, type(manifest)(**{**{f: getattr(manifest, f) for f in manifest.__struct_fields__}, "files": files})
    )
    world.announce(name)


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_invalid_items_become_dead_letters_once(world: World) -> None:
    world.publish_items(CATALOGUE)
    world.send(world.topics.items, b"x", b'{"item_id": 3}')
    world.send(world.topics.items, b"y", b'{"item_id": "z", "title": "under another key"}')
    world.announce("r1")
    for _ in range(2):
        with Process(world.settings, "index") as indexer:
            indexer.await_log("is complete")
            await_true(lambda: len(world.records(world.topics.dead_letter)) >= 2, "two dead letters", indexer.log)
            time.sleep(1.5)  # the offsets are committed once a second
            assert indexer.terminate() == 0
    dead = world.records(world.topics.dead_letter)
    assert {record.key for record in dead} == {b"x", b"y"}
    assert len(dead) == 2
    assert {dict(record.headers)["topic"].decode() for record in dead} == {world.topics.items}


def test_a_catalogue_that_was_created_again_has_its_invalid_items_reported_again(
    world: World, admin: KafkaAdminClient
) -> None:
    """Its offsets are those of other records: the group's committed offsets say nothing about them."""

    def run_indexer(dead_letters: int) -> None:
        with Process(world.settings, "index") as indexer:
            indexer.await_log("release r1 is live")  # not before it can be told to stop
            await_true(lambda: len(world.records(world.topics.dead_letter)) >= dead_letters, "letters", indexer.log)
            ends = offsets.ends(world.settings, world.topics.items)
            await_true(lambda: committed() == ends, "its offsets to be committed", indexer.log)
            assert indexer.terminate() == 0

    def committed() -> dict[int, int]:
        group = world.settings.group("indexer")
        held = admin.list_group_offsets({group: None})[group]
        return {source.partition: each.offset for source, each in held.items() if source.topic == world.topics.items}

    world.announce("r1")
    world.publish_items(CATALOGUE)
    world.send(world.topics.items, b"x", b"no item")
    run_indexer(1)
    run_indexer(1)
    admin.delete_topics([world.topics.items])
    await_true(lambda: world.topics.items not in admin.list_topics(), "the topic to be gone")
    topics.provision(admin, world.settings)
    for _ in range(2):  # one is where the first one was, or before it
        world.send(world.topics.items, b"x", b"no item either")
        world.publish_items(CATALOGUE)
    run_indexer(3)
    assert len(world.records(world.topics.dead_letter)) == 3


def test_the_indexers_metrics_move(world: World) -> None:
    world.publish_items(CATALOGUE)
    world.announce("r1")
    with Process(world.settings, "index", "--metrics-port", "0") as indexer:
        indexer.await_log("is complete")
        scrape = Scrape.of(indexer)
        await_true(lambda: scrape.value("anabranch_catalogue_items") == len(ITEMS), "the gauge of items", indexer.log)
        assert scrape.value("anabranch_item_vectors_total") == len(ITEMS)
        assert scrape.value("anabranch_items_waiting") == 0
        assert scrape.value("anabranch_stage_seconds_count", stage="text") > 0
        assert scrape.value("anabranch_consumer_lag", topic=world.topics.releases, partition="0") == 0


def test_a_live_release_that_cannot_be_loaded_is_told_and_the_next_is_indexed(world: World) -> None:
    world.publish_items([Item(item_id="i1", title="one")])
    world.announce("r1")
    folder = world.settings.releases_dir / "r1"
    folder.rename(folder.with_name("elsewhere"))
    with Process(world.settings, "index") as indexer:
        line = indexer.await_log("no vectors of the live release r1 can be made")
        assert "is releases_dir the folder that" in line
        world.announce("r2")
        indexer.await_log("indexing of release r2 is complete: 1 items")
        assert indexer.terminate() == 0
