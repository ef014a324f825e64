"""A group's position against both ends of a log."""

from __future__ import annotations

import pytest

from anabranch.kafka.log_bounds import HeldPosition, LogBounds, LogLoss, describe, find_loss


@pytest.mark.parametrize("next_offset", [5, 7, 9])
def test_a_log_that_holds_the_position_has_lost_nothing(next_offset: int) -> None:
    assert find_loss(HeldPosition(next_offset, saved_to=5), LogBounds(5, 9)) is None


def test_what_precedes_the_groups_first_offset_is_history_and_no_loss() -> None:
    assert find_loss(HeldPosition(7, saved_to=None), LogBounds(5, 9)) is None


def test_a_log_that_begins_behind_the_position_lost_the_events_between() -> None:
    assert find_loss(HeldPosition(3, saved_to=3), LogBounds(5, 9)) == LogLoss("trimmed", 5, unranked=2, unsaved=0)


def test_ranked_events_that_no_saved_state_has_are_lost_to_the_states() -> None:
    assert find_loss(HeldPosition(7, saved_to=2), LogBounds(5, 9)) == LogLoss("trimmed", 7, unranked=0, unsaved=3)
    assert find_loss(HeldPosition(4, saved_to=2), LogBounds(5, 9)) == LogLoss("trimmed", 5, unranked=1, unsaved=2)


def test_a_log_that_ends_before_the_position_lost_its_end() -> None:
    assert find_loss(HeldPosition(12, saved_to=12), LogBounds(5, 9)) == LogLoss("truncated", 9, 0, unsaved=0)
    assert find_loss(HeldPosition(12, saved_to=10), LogBounds(5, 9)) == LogLoss("truncated", 9, 0, unsaved=2)
    assert find_loss(HeldPosition(12, saved_to=3), LogBounds(5, 9)) == LogLoss("truncated", 9, 0, unsaved=3)


def test_a_log_with_other_records_before_the_position_lost_what_it_had_there() -> None:
    held, log = HeldPosition(12, saved_to=12), LogBounds(0, 900)
    assert find_loss(held, log, agreed_end=9) == LogLoss("truncated", 9, 0, unsaved=0)
    assert find_loss(held, log, agreed_end=12) is None


def test_a_topic_with_another_id_is_another_topic_however_long_its_log_is() -> None:
    held = HeldPosition(7, saved_to=6, topic_id="old")
    assert find_loss(held, LogBounds(0, 900, "new")) == LogLoss("recreated", 0, unranked=0, unsaved=1)


@pytest.mark.parametrize(("held_id", "log_id"), [("", "new"), ("old", ""), ("same", "same")])
def test_an_id_that_is_not_known_is_not_compared(held_id: str, log_id: str) -> None:
    assert find_loss(HeldPosition(7, 7, held_id), LogBounds(0, 900, log_id)) is None


def test_a_loss_is_told_with_what_the_log_holds_what_the_group_held_and_what_is_gone() -> None:
    held, log = HeldPosition(700, saved_to=690), LogBounds(900, 950)
    loss = find_loss(held, log)
    assert loss is not None
    assert describe(loss, held, log) == (
        "holds offsets 900 up to 950, and the group's position in it is 700: 200 events were deleted before they were "
        "ranked, and 10 ranked events are missing from the saved user states"
    )
