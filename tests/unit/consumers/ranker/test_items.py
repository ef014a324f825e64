"""Items in a ranker's memory: unnamed ones, those that a catalogue names later, and two ids of one hash."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from msgspec.structs import replace

from anabranch.messages import Event, ItemVector, Neighbours, SavedState
from anabranch.ranking import vocabulary
from anabranch.ranking.retrieval.co_visit_row import co_visit_row
from anabranch.ranking.vocabulary import ItemVocabulary
from consumers.releases.updates import ItemVectorUpdate, item_vector_update
from tests.support.in_memory_kafka import Outcome
from tests.support.ranker_world import CATALOGUE, RankerProcess, RankerWorld, purchases
from tests.support.releases import DIMS

NEW_ITEM = "in no catalogue yet"


def about(item_ids: Sequence[str], first: int = 0, users: int = 4) -> list[Event]:
    """Events of users in turn about the items."""
    events = purchases(len(item_ids), users, first)
    return [replace(event, item_id=item_id) for event, item_id in zip(events, item_ids, strict=True)]


def start(world: RankerWorld, **settings: object) -> RankerProcess:
    process = world.process(**settings)
    process.settle()
    return process


def vector_of(process: RankerProcess, item_id: str) -> ItemVectorUpdate:
    """The item gets a vector: the update that the release watcher queues."""
    vector = np.linspace(-1, 1, DIMS, dtype=np.float32)
    message = ItemVector(item_id=item_id, release="r1", vector=vector.tobytes(), available=True)
    update = item_vector_update("r1", {item_id: message}, process.store.items)
    assert update is not None
    return update


def test_an_item_ranks_as_one_that_the_catalogue_has_had_all_along(
    world: RankerWorld, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In the history, among the long-term items and in the transaction in flight, whatever it was known by before."""

    def run(is_named_at_first: bool) -> tuple[dict[str, list[str]], dict[str, SavedState]]:
        shop = RankerWorld(tmp_path_factory.mktemp("shop"), history_length=3, slate_size=20, allow_session_repeats=True)
        process = start(shop)
        if is_named_at_first:
            process.store.items.row(NEW_ITEM)
        mixed = [NEW_ITEM if n % 3 else CATALOGUE[n] for n in range(24)]
        shop.send(*about(mixed))
        process.settle()
        shop.send(*about(mixed, first=24))
        process.turn()
        assert process.ranker._committer.is_pending
        process.releases.updates.append(vector_of(process, NEW_ITEM))
        process.settle()
        shop.send(*about(mixed, first=48))
        process.settle()
        process.stop()
        assert process.store.items.unnamed == 0
        return shop.slates(), shop.saved_states()

    named_late, named_first = run(is_named_at_first=False), run(is_named_at_first=True)
    assert any(NEW_ITEM in slate for slate in named_first[0].values())
    assert named_late == named_first


def test_a_transaction_that_aborts_as_an_item_is_named_leaves_no_number_behind(world: RankerWorld) -> None:
    process = start(world)
    world.send(*about([NEW_ITEM] * 8))
    process.settle()
    world.send(*about([NEW_ITEM, "another"] * 4, first=8))
    process.publisher.script.append(Outcome.ABORTED)
    process.turn()
    process.releases.updates.append(vector_of(process, NEW_ITEM))
    process.settle()
    row, users = process.store.items.row(NEW_ITEM), process.store.users
    recent = users.recent_items(np.flatnonzero(users.columns.partition >= 0), 8)
    assert (recent == row).sum() == 12
    assert process.store.items.unnamed == 1


def test_unnamed_items_in_no_user_state_are_forgotten_and_nothing_else_changes(
    world: RankerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "SWEEP_AT_LEAST", 30)
    process = start(world, history_length=2, own_items=2)
    world.settings |= {"history_length": 2, "own_items": 2}
    for first in range(0, 400, 40):
        world.send(*about([f"unnamed {n}" if n % 4 else CATALOGUE[n % 40] for n in range(first, first + 40)], first))
        process.settle()
        assert process.store.items.unnamed <= 30 + 8, "a sweep may come up to two batches late"
        world.clock.advance(2)
        process.turn()
        assert process.metric("unnamed_items") == process.store.items.unnamed
    monkeypatch.undo()
    world.assert_exactly_once(process)


def test_users_whose_states_hold_unnamed_items_are_evicted_and_come_back(
    world: RankerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "SWEEP_AT_LEAST", 10)
    process = start(world, max_users=2)
    for first in range(0, 96, 8):
        world.send(
            *about([f"unnamed {n % 31}" if n % 2 else CATALOGUE[n % 40] for n in range(first, first + 8)], first)
        )
        process.settle()
        world.clock.advance(10)
        process.turn(3)
    recalled = process.metric("user_states_recalled_total")
    assert recalled is not None
    assert recalled > 10
    monkeypatch.undo()
    world.assert_exactly_once(process)


@pytest.fixture
def same_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Item ids of the same length have the same stable hash, but for those of the catalogue."""
    stable_hash: Callable[[str], int] = vocabulary.stable_hash
    monkeypatch.setattr(
        vocabulary, "stable_hash", lambda text: stable_hash(text) if text in CATALOGUE[1:] else 1 + len(text)
    )


@pytest.mark.usefixtures("same_hash")
def test_an_event_about_an_item_of_the_same_hash_as_anothers_is_ranked_counted_and_logged(
    world: RankerWorld, caplog: pytest.LogCaptureFixture
) -> None:
    process = start(world)
    other = "x" * len(CATALOGUE[0])
    world.send(*about([other, CATALOGUE[0], other], users=1))
    process.settle()
    world.clock.advance(2)
    process.turn()
    assert len(world.slates()) == 3
    assert process.metric("item_id_collisions_total") == 2
    assert process.store.users.recent_items(process.store.users.slots(["u0"], 0), 4).tolist() == [[0, -1, -1, -1]]
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert repr(other) in warning
    assert repr(CATALOGUE[0]) in warning
    assert "another id" in warning


@pytest.mark.usefixtures("same_hash")
def test_an_item_and_neighbours_of_the_same_hash_as_anothers_are_left_out() -> None:
    items = ItemVocabulary()
    items.row("one")
    vector = ItemVector(item_id="two", release="r1", vector=bytes(4 * DIMS), available=True)
    assert item_vector_update("r1", {"two": vector, "six": None}, items) is None
    update = item_vector_update("r1", {"two": vector, "one": replace(vector, item_id="one")}, items)
    assert update is not None
    assert update.rows.tolist() == [0]
    neighbours = Neighbours(item_id="one", neighbours=[], popularity=0.5, first_seen=1, ts=1)
    assert co_visit_row("two", neighbours, items) is None
    assert co_visit_row("one", neighbours, items) is not None
    assert {collision.refused for collision in items.take_collisions()} == {"two", "six"}


GROWTH = """
import resource, sys
import numpy as np
from anabranch.ranking.event_batch import BatchColumns
from anabranch.ranking.user_state.store import UserStates
from anabranch.settings import Settings
from consumers.user_states.state_store import StateStore

N, CHUNK = 1_000_000, 2_000
store = StateStore.new(Settings(max_users=5_000))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def items(first):
    slots = store.users.slots([f"bot {n % 50}" for n in range(CHUNK)])
    items = store.items.mentioned([f"an item id of forty characters {n:09d}" for n in range(first, first + CHUNK)])
    n, numbers = np.zeros(CHUNK, np.uint8), np.arange(first, first + CHUNK)
    events = BatchColumns(slots, items, n, 1000 * numbers, n.astype(np.uint64), numbers.astype(np.uint64))
    store.users.apply_events(events, np.zeros(CHUNK, np.bool_), np.empty(0, np.int64))
    store.update_items()

def users(first):
    slots = store.users.slots([f"a user id of forty characters {n:09d}" for n in range(first, first + CHUNK)])
    store.users.columns.saved_at[slots] = np.arange(first, first + CHUNK)
    store.users.evict(slots)

step = {"items": items, "users": users}[sys.argv[1]]
for first in range(0, 150_000, CHUNK):  # compilation, and what any number takes
    step(first)
before = peak()
for first in range(150_000, 150_000 + N, CHUNK):
    step(first)
print((peak() - before) / N)
"""


@pytest.mark.parametrize(("kind", "bytes_each"), [("items", 2), ("users", 45)])
def test_a_million_ids_take_little_memory(kind: str, bytes_each: float) -> None:
    """Measured as the growth of the greatest resident memory of a process; a table is there twice while it grows."""
    run = subprocess.run([sys.executable, "-c", GROWTH, kind], capture_output=True, text=True, check=True)
    assert float(run.stdout) <= bytes_each
