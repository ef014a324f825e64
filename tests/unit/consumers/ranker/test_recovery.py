from __future__ import annotations

from anabranch.messages import Epoch, StateMarker
from consumers.ranker.recovery import ReplaySegment, missing_segments


def marker(offset: int, *epochs: tuple[int, str]) -> StateMarker:
    return StateMarker(offset=offset, rankings_offset=0, epochs=[Epoch(*epoch) for epoch in epochs])


def test_without_saved_states_everything_is_replayed_and_nothing_encoded() -> None:
    assert missing_segments(marker(0), 0, 9) == [ReplaySegment(0, 9, None)]


def test_events_before_the_first_ranked_one_are_replayed_without_a_release() -> None:
    assert missing_segments(marker(0, (4, "r1")), 0, 9) == [ReplaySegment(0, 4, None), ReplaySegment(4, 9, "r1")]


def test_events_are_replayed_by_the_release_that_ranked_them() -> None:
    assert missing_segments(marker(5, (4, "r1"), (7, "r2")), 5, 9) == [
        ReplaySegment(5, 7, "r1"),
        ReplaySegment(7, 9, "r2"),
    ]


def test_with_complete_saved_states_nothing_is_replayed() -> None:
    assert missing_segments(marker(9, (4, "r1")), 9, 9) == []


def test_a_replay_ends_at_the_groups_offset() -> None:
    assert missing_segments(marker(2, (2, "r1"), (9, "r2")), 2, 5) == [ReplaySegment(2, 5, "r1")]
