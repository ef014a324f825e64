"""Releases that go live, are swapped and retired while events flow."""

from __future__ import annotations

import numpy as np
import pytest

from anabranch.errors import BackgroundFailure
from anabranch.kafka.records import OutboundRecord
from anabranch.ranking.retrieval.co_visit_row import CoVisitRow
from consumers.ranker.partition_task import TaskState
from consumers.releases.updates import CoVisitUpdate, ItemVectorUpdate
from tests.support.in_memory_kafka import Outcome
from tests.support.ranker_world import CATALOGUE, RankerProcess, RankerWorld, purchases
from tests.support.releases import DIMS


def releases_by_offset(world: RankerWorld) -> dict[int, list[str]]:
    """The release of each ranking, by partition, in the order of the events."""
    rankings = sorted(world.rankings(), key=lambda ranking: (ranking.cause.partition, ranking.cause.offset))
    return {
        partition: [ranking.release for ranking in rankings if ranking.cause.partition == partition]
        for partition in (0, 1)
    }


def start(world: RankerWorld) -> RankerProcess:
    process = world.process()
    process.settle()
    return process


def test_before_the_first_release_is_live_nothing_is_ranked(
    world: RankerWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    process = world.process(release=None)
    world.send(*purchases(8))
    process.turn(10)
    assert world.rankings() == []
    assert "waiting for a live release" in caplog.text
    process.go_live("r1")
    world.assert_exactly_once(process)


def test_a_swap_takes_effect_between_two_batches_and_mixes_no_releases(world: RankerWorld) -> None:
    process = start(world)
    world.send(*purchases(24))
    process.turn(2)
    process.go_live("r2")
    process.settle()
    for releases in releases_by_offset(world).values():
        assert releases == sorted(releases)
        assert set(releases) <= {"r1", "r2"}
    assert "r2" in releases_by_offset(world)[1]
    assert len(world.slates()) == 24


def test_a_swap_waits_for_the_transaction_in_flight(world: RankerWorld) -> None:
    process = start(world)
    world.send(*purchases(8))
    process.turn()
    live_at_commit: list[str] = []
    process.publisher.before_commit = lambda: live_at_commit.append(process.ranker.model.release_id)
    process.go_live("r2")
    process.turn()
    assert live_at_commit == ["r1"], "an undo has arrays of the old release's sizes"
    assert process.ranker.model.release_id == "r2"


def test_a_transaction_that_aborts_at_a_swap_is_ranked_again_by_the_new_release(world: RankerWorld) -> None:
    process = start(world)
    world.send(*purchases(8))
    process.publisher.script.append(Outcome.ABORTED)
    process.turn()
    process.go_live("r2")
    process.settle()
    assert {ranking.release for ranking in world.rankings()} == {"r2"}
    assert len(world.slates()) == 8


def test_feedback_names_the_release_that_made_the_slate_before_the_swap(world: RankerWorld) -> None:
    process = start(world)
    world.send(*purchases(4))
    process.settle()
    process.go_live("r2")
    world.send(*purchases(4, first=4))
    process.settle()
    assert [entry.release for entry in world.feedback() if entry.event.event_id == "e4"] == ["r1"]


def test_a_retired_release_gets_no_more_vectors(world: RankerWorld) -> None:
    process = start(world)
    process.go_live("r2")
    process.turn()
    rows = process.store.items.rows(CATALOGUE[:1])
    removed = np.array(rows, np.int32)
    no_vectors = np.empty((0, DIMS), np.float32)
    for release in ("r1", "r2"):
        live = process.ranker.model.live
        assert live is not None
        before = len(live.index)
        no_rows, no_hashes = np.empty(0, np.int32), np.empty(0, np.uint64)
        update = ItemVectorUpdate(release, no_rows, no_vectors, np.empty(0, np.bool_), removed, no_hashes, no_hashes)
        process.releases.updates.append(update)
        process.turn()
        assert len(live.index) == before - (release == "r2")


def test_co_visits_are_applied_whatever_release_is_live(world: RankerWorld) -> None:
    process = start(world)
    row, near = process.store.items.row(CATALOGUE[0]), process.store.items.rows(CATALOGUE[1:2])
    process.releases.updates.append(CoVisitUpdate([CoVisitRow(row, near, np.ones(1, np.float32), popularity=7.0)]))
    process.turn()
    assert process.ranker.model.co_visits.columns.rows[row, 0] == near[0]


def test_while_events_are_ranked_one_update_is_applied_per_turn(world: RankerWorld) -> None:
    process = start(world)
    for _ in range(3):
        process.releases.updates.append(CoVisitUpdate([]))
    process.turn()
    assert len(process.releases.updates) == 2


def test_before_the_first_release_all_updates_are_applied_at_once(world: RankerWorld) -> None:
    process = world.process(release=None)
    for _ in range(3):
        process.releases.updates.append(CoVisitUpdate([]))
    process.turn()
    assert len(process.releases.updates) == 0


def test_an_error_of_the_watcher_ends_the_ranker(world: RankerWorld) -> None:
    process = start(world)
    world.send(*purchases(8))
    process.turn()
    process.releases.failure = BackgroundFailure("watching releases failed")
    with pytest.raises(BackgroundFailure):
        process.turn()
    assert world.rankings() == [], "the batch in flight is ranked by the successor"
    world.assert_exactly_once(world.process())


def test_a_successor_that_is_still_loading_the_release_that_ranked_last_waits_for_it(world: RankerWorld) -> None:
    process = start(world)
    process.go_live("r2")
    world.send(*purchases(8))
    process.settle()
    successor = world.process(release="r1")
    world.announce("r2")
    for _ in range(10):
        world.clock.advance(3)
        successor.turn()
    assert {task.state for task in successor.ranker.tasks} == {TaskState.RESTORING}
    successor.go_live("r2")
    world.send(*purchases(8, first=8))
    successor.settle()
    assert {ranking.release for ranking in world.rankings()} == {"r2"}
    assert len(world.slates()) == 16


def test_an_unreadable_notice_is_counted_once_however_long_recovery_waits(world: RankerWorld) -> None:
    process = start(world)
    process.go_live("r2")
    world.send(*purchases(8))
    process.settle()
    world.kafka.append(OutboundRecord(world.topics.releases, b"r3", b"no notice"))
    successor = world.process(release="r1")
    world.announce("r2")
    for _ in range(10):
        world.clock.advance(3)
        successor.turn()
    assert successor.metric("messages_passed_over_total", topic=world.topics.releases) == 1


def test_a_successor_whose_release_was_rolled_back_does_not_wait(world: RankerWorld) -> None:
    process = start(world)
    process.go_live("r2")
    world.send(*purchases(8))
    process.settle()
    world.announce("r1")
    successor = world.process(release="r1")
    world.send(*purchases(8, first=8))
    successor.settle()
    assert {ranking.release for ranking in world.rankings()[-4:]} <= {"r1", "r2"}
    assert len(world.slates()) == 16
    assert releases_by_offset(world)[1][-1] == "r1"


def test_after_a_swap_and_a_kill_each_event_is_replayed_by_the_release_that_ranked_it(world: RankerWorld) -> None:
    process = start(world)
    world.send(*purchases(8))
    process.settle()
    process.go_live("r2")
    world.send(*purchases(8, first=8))
    process.settle()
    vectors = process.store.users.columns.vector[process.store.users.slots(["u0"], [0])].copy()
    successor = world.process(release="r2")
    successor.settle()
    successor.turn(60)
    restored = successor.store.users.columns.vector[successor.store.users.slots(["u0"], [0])]
    assert (restored == vectors).all()


def test_a_partition_that_another_version_ranked_last_is_ranked_by_what_serves_here(world: RankerWorld) -> None:
    """In a fleet of two versions: this one cannot serve the release announced last, and must not wait for it."""
    other = world.process("r2")
    other.settle()
    world.send(*purchases(8))
    other.settle()
    other.stop()
    process = world.process(release=None)
    process.go_live("r1")
    world.announce("r2")
    process.releases.unservable = {"r2"}
    process.settle()
    world.send(*purchases(8, first=8))
    process.settle()
    assert len(world.slates()) == 16
    assert {ranking.release for ranking in world.rankings()[-4:]} == {"r1"}
    process.stop()
    assert {state.seen for state in world.saved_states().values()} == {4}
