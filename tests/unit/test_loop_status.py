"""When a process counts as stuck, and as ready."""

from __future__ import annotations

from anabranch.loop_status import STARTING, LoopStatus
from tests.support.in_memory_kafka import ManualClock


def status(clock: ManualClock) -> LoopStatus:
    return LoopStatus(120, lambda: clock.seconds)


def test_a_process_is_not_ready_before_its_first_turn_and_not_stuck_either() -> None:
    loop = status(ManualClock())
    assert loop.not_ready == STARTING
    assert loop.stuck is None


def test_a_process_is_ready_once_a_turn_misses_nothing() -> None:
    loop = status(ManualClock())
    loop.turned("waiting for a live release")
    assert loop.not_ready == "waiting for a live release"
    loop.turned(None)
    assert loop.not_ready is None


def test_a_process_that_hangs_is_stuck_and_not_ready_though_its_last_turn_missed_nothing() -> None:
    clock = ManualClock()
    loop = status(clock)
    loop.turned(None)
    clock.advance(120)
    assert loop.stuck is None
    clock.advance(1)
    assert loop.stuck == loop.not_ready == "the main loop has not turned for 121 s: more than 120 s"
    loop.turned(None)
    assert loop.not_ready is None


def test_a_start_that_hangs_is_stuck() -> None:
    clock = ManualClock()
    loop = status(clock)
    clock.advance(121)
    assert loop.stuck is not None


def test_a_long_turn_that_makes_progress_is_not_stuck_and_does_not_change_what_is_missing() -> None:
    clock = ManualClock()
    loop = status(clock)
    loop.turned("9 items left to index")
    for _ in range(3):
        clock.advance(100)
        loop.beat()
    assert loop.age_s == 0
    assert loop.stuck is None
    assert loop.not_ready == "9 items left to index"
