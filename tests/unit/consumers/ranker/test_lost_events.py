"""Logs that lost what the group needs of them: retention, a truncation, a topic that was created again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from anabranch import messages
from anabranch.errors import EventsLost
from anabranch.kafka import log_tail
from anabranch.kafka.records import OutboundRecord
from anabranch.messages import STATE_MARKER_KEY, StateMarker, encode_binary
from consumers.ranker.partition_task import TaskState
from tests.support.in_memory_kafka import Outcome
from tests.support.ranker_world import RankerProcess, RankerWorld, purchases

CONTINUE = {"on_lost_events": "continue"}


def rank(world: RankerWorld, events: int, **settings: Any) -> RankerProcess:
    """A process that has ranked `events` more events."""
    process = world.process(**settings)
    process.settle()
    send(world, events)
    process.settle()
    return process


def send(world: RankerWorld, events: int) -> None:
    world.send(*purchases(events, first=len(world.sent)))


def lost(process: RankerProcess, reason: str, partition: int = 0) -> float | None:
    return process.metric("events_lost_total", partition=str(partition), reason=reason)


def breaks(process: RankerProcess, reason: str, partition: int = 0) -> float | None:
    return process.metric("log_breaks_total", partition=str(partition), reason=reason)


def assert_as_uninterrupted(world: RankerWorld, process: RankerProcess, folder: Path) -> None:
    """Slates, feedback and states are those of one process that had all events that were ever sent."""
    process.settle()
    process.stop()
    reference = RankerWorld(folder, **world.settings)
    reference.send(*world.sent)
    uninterrupted = reference.process()
    uninterrupted.settle()
    uninterrupted.stop()
    assert world.slates() == reference.slates()
    assert feedback(world) == feedback(reference)
    assert states(world) == states(reference)


def feedback(world: RankerWorld) -> list[tuple[str, int | None, str | None]]:
    return [(entry.event.event_id, entry.rank, entry.release) for entry in world.feedback()]


def states(world: RankerWorld) -> dict[str, messages.SavedState]:
    """Without the offsets, which are others after a loss."""
    return {user: replace(state, next_offset=0) for user, state in world.saved_states().items()}


# --- trimmed ----------------------------------------------------------------------------------------------------------


def trimmed(world: RankerWorld) -> None:
    """Twelve events of each partition are ranked; of the six that follow on partition 0, three are deleted."""
    rank(world, 24).stop()
    send(world, 12)
    world.kafka.trim(world.topics.events, 0, 15)


def test_a_log_that_begins_behind_the_position_stops_the_ranker_in_one_line_with_the_remedy(world: RankerWorld) -> None:
    trimmed(world)
    with pytest.raises(EventsLost) as raised:
        world.process().settle()
    line = str(raised.value)
    assert line.startswith(
        "events, partition 0 holds offsets 15 up to 18, and the group's position in it is 12: 3 events"
    )
    assert "on_lost_events=continue" in line and "\n" not in line
    assert world.kafka.committed[0] == 12, "the next process finds the same"


def test_with_continue_exactly_the_deleted_events_have_no_ranking_and_they_are_counted(world: RankerWorld) -> None:
    trimmed(world)
    process = world.process(**CONTINUE)
    assert lost(process, "trimmed") is None
    process.settle()
    missing = {event.event_id for event in world.sent} - world.slates().keys()
    assert missing == {"e24", "e26", "e28"}
    assert lost(process, "trimmed") == 3 and breaks(process, "trimmed") == 1
    assert lost(process, "trimmed", partition=1) == 0, "no loss is a sample too, so that alerts see it grow"


def test_without_transactions_a_loss_is_judged_and_counted_all_the_same(world: RankerWorld) -> None:
    trimmed(world)
    process = world.process(processing_guarantee="at_least_once", **CONTINUE)
    process.settle()
    assert {event.event_id for event in world.sent} - world.slates().keys() == {"e24", "e26", "e28"}
    assert lost(process, "trimmed") == 3


def test_a_loss_is_counted_once(world: RankerWorld) -> None:
    trimmed(world)
    world.process(**CONTINUE).settle()
    successor = rank(world, 8, **CONTINUE)
    assert lost(successor, "trimmed") == breaks(successor, "trimmed") == 0
    rank(world, 4)  # and a process that stops at a loss finds none


def test_events_that_are_deleted_under_a_running_ranker_are_counted(world: RankerWorld) -> None:
    process = rank(world, 24, **CONTINUE)
    send(world, 40)
    process.turn()
    world.kafka.trim(world.topics.events, 1, 25)
    process.settle()
    assert lost(process, "trimmed", partition=1) == len(world.sent) - len(world.slates()) > 0


def test_events_that_are_deleted_under_a_running_ranker_stop_it(world: RankerWorld) -> None:
    process = rank(world, 24)
    send(world, 40)
    process.turn()
    world.kafka.trim(world.topics.events, 1, 25)
    with pytest.raises(EventsLost, match="events, partition 1 holds offsets 25 up to 32"):
        process.settle()


def test_ranked_events_that_cannot_be_replayed_are_told_and_their_slates_are_kept(world: RankerWorld) -> None:
    rank(world, 24)  # and no state is saved
    world.kafka.trim(world.topics.events, 0, 9)
    with pytest.raises(EventsLost, match="and 9 ranked events are missing from the saved user states"):
        world.process().settle()
    process = world.process(**CONTINUE)
    process.settle()
    assert lost(process, "trimmed") == 9
    del process  # killed: the slates must outlive it
    successor = rank(world, 4, **CONTINUE)
    assert lost(successor, "trimmed") == 0
    assert [entry.release for entry in world.feedback() if entry.event.event_id in ("e24", "e26")] == ["r1", "r1"]


def test_a_slate_whose_event_is_lost_is_saved_with_its_user(world: RankerWorld) -> None:
    """Or it would be forgotten as soon as the marker goes on beyond its ranking."""
    process = rank(world, 12)
    world.clock.advance(10)
    process.turn(3)  # all states are saved
    send(world, 12)
    process.settle()  # and killed
    world.kafka.trim(world.topics.events, 0, 12)
    _, _, saved, _, _, last = [ranking for ranking in world.rankings() if ranking.user_id == "u0"]
    process = world.process(**CONTINUE)
    process.settle()
    world.send(*(replace(event, user_id="u4") for event in purchases(4, first=24)))
    process.settle()
    world.clock.advance(10)
    process.turn(3)  # and killed
    items, older = [item.item_id for item in last.slate], [item.item_id for item in saved.slate]
    place = next(place for place, item in enumerate(items) if item != older[place])
    world.send(replace(purchases(1, first=40)[0], user_id="u0", item_id=items[place]))
    world.process().settle()
    [feedback_of_u0] = [entry for entry in world.feedback() if entry.event.event_id == "e40"]
    assert feedback_of_u0.rank == place + 1


# --- truncated --------------------------------------------------------------------------------------------------------


def truncated(world: RankerWorld, saved: bool = True) -> None:
    process = rank(world, 24)
    if saved:
        process.stop()
    world.kafka.truncate(world.topics.events, 0, 9)


def test_a_log_that_ends_before_the_position_stops_the_ranker(world: RankerWorld) -> None:
    truncated(world)
    with pytest.raises(
        EventsLost,
        match=r"holds offsets 0 up to 9, .* position in it is 12: from offset 9 on the log lost what it had, 3 events",
    ):
        world.process().settle()


def test_states_that_are_ahead_of_a_truncated_log_are_kept_and_new_events_are_ranked(
    world: RankerWorld, tmp_path: Path
) -> None:
    truncated(world)
    process = rank(world, 24, **CONTINUE)
    assert lost(process, "truncated") == 0 and breaks(process, "truncated") == 1
    assert_as_uninterrupted(world, process, tmp_path)


@pytest.mark.parametrize("new_events", [4, 6, 40])
def test_a_truncated_log_that_has_grown_again_is_told_by_the_events_it_holds(
    world: RankerWorld, tmp_path: Path, new_events: int
) -> None:
    """Up to before the position, up to it, and beyond: by then no offset tells."""
    truncated(world)
    send(world, new_events)
    with pytest.raises(EventsLost, match=r"partition 0 .* from offset 9 on the log lost what it had, 3 events"):
        world.process().settle()
    process = world.process(**CONTINUE)
    process.settle()
    assert breaks(process, "truncated") == 1 and breaks(process, "truncated", partition=1) == 0
    assert_as_uninterrupted(world, process, tmp_path)


def test_a_log_that_lost_more_than_the_newest_events_is_searched_for_where_it_agrees(
    world: RankerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_tail, "WINDOW_RECORDS", 2)
    rank(world, 48).stop()
    world.kafka.truncate(world.topics.events, 0, 3)
    send(world, 60)
    with pytest.raises(EventsLost, match="from offset 3 on the log lost what it had, 21 events"):
        world.process().settle()


def test_feedback_about_the_log_before_a_loss_is_not_compared_with_the_log_after_it(world: RankerWorld) -> None:
    """A duplicate and a message that is no event have no feedback that would replace the old one."""
    truncated(world)
    process = rank(world, 0, **CONTINUE)
    world.kafka.append(OutboundRecord(world.topics.events, b"u0", messages.encode(world.sent[16]), 0))
    world.send_bytes(b"no event", "u0")
    process.settle()
    process.stop()
    process = rank(world, 8)
    assert breaks(process, "truncated") == 0


def test_new_events_at_old_offsets_are_replayed_after_a_kill(world: RankerWorld, tmp_path: Path) -> None:
    truncated(world)
    rank(world, 24, **CONTINUE)  # killed before it saves a state
    successor = world.process()
    assert_as_uninterrupted(world, successor, tmp_path)


def test_users_whose_states_are_ahead_of_the_log_are_rolled_back_with_their_batch(
    world: RankerWorld, tmp_path: Path
) -> None:
    rank(world, 24).stop()
    world.kafka.recreate(world.topics.events)
    process = world.process(**CONTINUE)
    send(world, 8)
    while not any(task.state is TaskState.RUNNING for task in process.ranker.tasks):
        world.clock.advance(0.3)
        process.turn()
    process.publisher.script.append(Outcome.ABORTED)
    assert_as_uninterrupted(world, process, tmp_path)


def test_events_that_no_state_has_are_counted_as_lost_to_the_states(world: RankerWorld) -> None:
    truncated(world, saved=False)
    process = rank(world, 4, **CONTINUE)
    assert lost(process, "truncated") == 3
    assert len(world.slates()) == 28


def test_a_leader_that_does_not_know_the_logs_end_yet_is_no_loss(world: RankerWorld) -> None:
    rank(world, 24).stop()
    source = next(
        source for source in world.kafka.logs if source.topic == world.topics.events and source.partition == 0
    )
    log = list(world.kafka.logs[source])
    world.kafka.truncate(world.topics.events, 0, 9)
    process = world.process()
    for _ in range(8):
        world.clock.advance(0.3)
        process.turn()
    world.kafka.logs[source] = log
    world.assert_exactly_once(process)


# --- created again ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offsets_kept", [True, False])
@pytest.mark.parametrize("new_events", [8, 60])
def test_a_topic_that_was_created_again_is_told_by_its_id_however_long_its_log_is(
    world: RankerWorld, tmp_path: Path, new_events: int, offsets_kept: bool
) -> None:
    rank(world, 24).stop()
    world.kafka.recreate(world.topics.events)
    if not offsets_kept:  # Kafka deletes them with the topic
        world.kafka.committed.clear()
    send(world, new_events)
    with pytest.raises(EventsLost, match="it is a new topic of that name"):
        world.process().settle()
    process = world.process(**CONTINUE)
    process.settle()
    assert breaks(process, "recreated") == breaks(process, "recreated", partition=1) == 1
    assert_as_uninterrupted(world, process, tmp_path)


def test_a_topic_that_is_created_again_under_a_running_ranker_is_noticed(world: RankerWorld, tmp_path: Path) -> None:
    process = rank(world, 24, **CONTINUE)
    process.ranker.final_checkpoint()
    world.kafka.recreate(world.topics.events)
    send(world, 8)
    assert_as_uninterrupted(world, process, tmp_path)


def test_a_second_loss_keeps_what_the_first_one_said_of_older_states(world: RankerWorld, tmp_path: Path) -> None:
    """The states of the first topic count in its offsets: they hold no event of the second, before the cut or after."""
    rank(world, 24).stop()
    world.kafka.recreate(world.topics.events)
    process = rank(world, 4, **CONTINUE)
    kept = list(world.sent)
    strangers = [replace(event, user_id=f"u{6 + index % 2}") for index, event in enumerate(purchases(4, first=28))]
    world.send(*strangers)
    process.settle()  # killed before it saves a state
    for partition in (0, 1):
        world.kafka.truncate(world.topics.events, partition, 2)
    successor = world.process(**CONTINUE)
    successor.settle()
    successor.stop()
    reference = RankerWorld(tmp_path, **world.settings)
    reference.send(*kept)
    rank(reference, 0).stop()
    assert states(world) == states(reference)


def test_a_dead_letter_of_the_old_topic_hides_no_event_of_the_new_one(world: RankerWorld, tmp_path: Path) -> None:
    rank(world, 0)
    for user in ("u0", "u1"):
        world.send_bytes(b"no event", user)
    rank(world, 0).stop()
    world.kafka.recreate(world.topics.events)
    send(world, 8)  # at the same offsets
    world.process(**CONTINUE).settle()  # killed: its events are replayed
    assert_as_uninterrupted(world, world.process(), tmp_path)


def test_a_marker_of_an_earlier_version_names_no_topic_and_is_not_judged_by_it(world: RankerWorld) -> None:
    process = rank(world, 24)
    process.stop()
    for partition in (0, 1):
        marker = newest_marker(world, partition)
        old = encode_binary(replace(marker, events_topic_id=""))
        world.kafka.append(OutboundRecord(world.topics.user_state, STATE_MARKER_KEY, old, partition))
    rank(world, 8).stop()
    assert newest_marker(world, 0).events_topic_id == "events 0"


def newest_marker(world: RankerWorld, partition: int) -> StateMarker:
    records = world.kafka.records(world.topics.user_state)
    values = [record.value for record in records if record.key == STATE_MARKER_KEY and record.partition == partition]
    return messages.state_markers.decode(values[-1] or b"")


# --- rankings ---------------------------------------------------------------------------------------------------------


def test_rankings_that_recovery_needs_and_does_not_find_stop_the_ranker(world: RankerWorld) -> None:
    rank(world, 24)
    send(world, 8)
    process = world.process()
    process.settle()
    world.clock.advance(10)
    process.turn(3)
    send(world, 4)
    process.settle()  # killed with events that no state has, whose rankings are on the topic
    world.kafka.recreate(world.topics.rankings)
    with pytest.raises(
        EventsLost, match="rankings, partition 0 holds offsets 0 up to 0, and the saved user states need"
    ):
        world.process().settle()
    process = world.process(**CONTINUE)
    process.settle()
    assert breaks(process, "slates") == 1


def test_rankings_that_no_recovery_needs_may_go(world: RankerWorld) -> None:
    rank(world, 24).stop()
    world.kafka.recreate(world.topics.rankings)
    process = rank(world, 4)
    assert breaks(process, "slates") == 0
    assert len(world.slates()) == 4


# --- the lag ----------------------------------------------------------------------------------------------------------


def test_the_lag_of_a_log_that_lost_its_end_is_below_zero(world: RankerWorld) -> None:
    process = rank(world, 24)
    world.kafka.truncate(world.topics.events, 0, 9)
    assert process.ranker._lag() == {0: -3, 1: 0}


# --- the group's offset -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("saved", [True, False])
def test_a_group_whose_offsets_have_expired_goes_on_where_it_was(
    world: RankerWorld, saved: bool, caplog: pytest.LogCaptureFixture
) -> None:
    process = rank(world, 24)
    if saved:
        process.stop()
    world.kafka.committed.clear()
    send(world, 8)
    successor = world.process()
    world.assert_exactly_once(successor)
    assert "goes on at offset 12, behind the last event that it ranked" in caplog.text


def test_dead_letters_and_duplicates_behind_the_last_ranking_are_not_repeated(world: RankerWorld) -> None:
    process = rank(world, 8)
    for user in ("u0", "u1"):
        world.send_bytes(b"no event", user)
    world.kafka.append(OutboundRecord(world.topics.events, b"u0", messages.encode(world.sent[0]), 0))
    process.settle()
    published = len(world.kafka.records(world.topics.dead_letter))
    world.kafka.committed.clear()
    world.process().settle()
    assert len(world.kafka.records(world.topics.dead_letter)) == published == 2
    assert len(world.slates()) == 8


def test_feedback_alone_tells_how_far_the_group_was(world: RankerWorld) -> None:
    """Rankings may be gone: retention and compaction remove them."""
    rank(world, 24).stop()
    world.kafka.recreate(world.topics.rankings)
    world.kafka.recreate(world.topics.user_state)
    marker = StateMarker(offset=0, rankings_offset=0, epochs=[])
    for partition in (0, 1):
        world.kafka.append(OutboundRecord(world.topics.user_state, STATE_MARKER_KEY, encode_binary(marker), partition))
    world.kafka.committed.clear()
    rank(world, 4)
    assert [ranking.cause.event_id for ranking in world.rankings()] == ["e24", "e26", "e25", "e27"]


def test_a_group_with_neither_marker_nor_offset_is_new(world: RankerWorld) -> None:
    send(world, 8)
    process = world.process()
    process.settle()
    assert len(world.slates()) == 8
