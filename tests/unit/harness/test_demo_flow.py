from __future__ import annotations

from collections.abc import Callable

import pytest

from anabranch.harness.demo.flow import HORIZON_S, MAX_EVENTS_PER_S, Flow
from anabranch.harness.demo.stage_clock import StageClock
from anabranch.messages import Event


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def before(self, seconds: float) -> Callable[[], bool]:
        return lambda: self.now < seconds


def _flow(count: int, clock: Clock) -> Flow:
    events = [Event(event_id=f"e{index}", user_id="u", type="view", ts=index, item_id="i") for index in range(count)]
    return Flow(events, monotonic=lambda: clock.now, sleep=clock.sleep)


def test_events_flow_for_as_long_as_a_job_runs_and_the_rest_is_left() -> None:
    clock = Clock()
    flow = _flow(1000, clock)
    during = list(flow.while_(clock.before(HORIZON_S / 2)))
    assert 300 < len(during) < 500
    assert [event.ts for event in (*during, *flow.rest())] == list(range(1000))
    assert flow.rest() == []


def test_events_are_left_after_a_job_that_takes_three_times_as_long_as_expected() -> None:
    clock = Clock()
    flow = _flow(1000, clock)
    assert len(list(flow.while_(clock.before(3 * HORIZON_S)))) < 1000


def test_many_events_flow_at_a_rate_that_leaves_the_processor_to_the_training() -> None:
    clock = Clock()
    flow = _flow(100_000, clock)
    assert len(list(flow.while_(clock.before(10.0)))) == pytest.approx(10 * MAX_EVENTS_PER_S, rel=0.05)


def test_a_job_that_has_ended_lets_no_event_flow() -> None:
    assert list(_flow(10, Clock()).while_(lambda: False)) == []


def test_the_end_of_a_job_is_noticed_between_two_events() -> None:
    clock = Clock()
    list(_flow(2, clock).while_(clock.before(5.0)))
    assert clock.now < 6.0


def test_a_job_without_events_does_not_wait() -> None:
    clock = Clock()
    assert list(_flow(0, clock).while_(lambda: True)) == []
    assert clock.now == 0.0


def test_a_stage_costs_the_cpu_time_of_its_work() -> None:
    clock = StageClock()
    with clock("work"):
        sum(range(3_000_000))
    [cost] = clock.stages
    assert cost.stage == "work"
    assert 0 < cost.cpu_seconds <= cost.seconds * 2
    assert clock.seconds >= cost.seconds
