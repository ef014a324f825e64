"""Who is watched is told of, once for each time that something happened, and nobody else is."""

from __future__ import annotations

from anabranch.messages import Event
from consumers.replica.user_changes import UserChanges
from tests.support.ranker_world import RankerWorld, purchases
from tests.support.replica_world import ReplicaProcess


def test_only_watched_users_are_told_of_and_once() -> None:
    changes = UserChanges()
    changes.add(["ann"])
    assert changes.take() == set()
    changes.watch("ann")
    changes.add(["ann", "bob", "ann"])
    assert changes.take() == {"ann"}
    assert changes.take() == set()


def test_a_user_is_watched_until_the_last_one_who_watches_has_gone() -> None:
    changes = UserChanges()
    changes.watch("ann")
    changes.watch("ann")
    changes.unwatch("ann")
    changes.add_everybody()
    assert changes.take() == {"ann"}
    changes.unwatch("ann")
    assert not changes.is_watching
    changes.add_everybody()
    assert changes.take() == set()


def test_a_replica_tells_of_the_users_whose_events_it_applied(world: RankerWorld) -> None:
    world.rank(*purchases(8))
    replica = ReplicaProcess(world)
    replica.settle()
    changes = replica.replica.changes
    for user_id in ("u1", "u2"):
        changes.watch(user_id)
    world.send(Event(event_id="new", user_id="u1", type="view", ts=9_000_000, item_id="item 3"))
    world.send(Event(event_id="other", user_id="u3", type="view", ts=9_000_000, item_id="item 3"))
    replica.settle()
    assert changes.take() == {"u1"}


def test_another_release_concerns_everybody(world: RankerWorld) -> None:
    replica = ReplicaProcess(world)
    replica.settle()
    replica.replica.changes.watch("u1")
    replica.settle()
    assert replica.replica.changes.take() == set()
    replica.go_live("r2")
    replica.settle()
    assert replica.replica.changes.take() == {"u1"}
