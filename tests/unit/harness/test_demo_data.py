from __future__ import annotations

import pytest

from anabranch.errors import UsageError
from anabranch.harness.demo.data import GATE_SHARE, DemoData, Segment, hold_back, span_ms, window_lengths
from anabranch.harness.demo.households import HouseholdSchedule, household_data
from anabranch.messages import Event
from models.data.event_log import DAY_MS, EventLog
from models.retraining.windows import WindowLengths, split_windows

HOUR_MS = 3_600_000


def _events(first_ms: int, last_ms: int, count: int = 50) -> list[Event]:
    times = (first_ms + index * (last_ms - first_ms) // (count - 1) for index in range(count))
    return [Event(event_id=f"e{ts}", user_id="u", type="view", ts=ts, item_id="i") for ts in times]


def test_windows_are_those_of_the_retraining_job_where_there_is_time_for_them() -> None:
    assert window_lengths(100 * DAY_MS, 30 * DAY_MS) == WindowLengths(order_days=14.0, gate_days=7.0)


@pytest.mark.parametrize("unit_ms", [HOUR_MS, DAY_MS, 365 * DAY_MS])
def test_two_re_shares_find_their_windows_in_data_of_hours_and_of_years(unit_ms: int) -> None:
    history, first, second = (
        _events(0, 7 * unit_ms),
        _events(7 * unit_ms, 8 * unit_ms),
        _events(8 * unit_ms, 9 * unit_ms),
    )
    lengths = DemoData("", (), (), history, [Segment("1", first), Segment("2", second)]).windows()
    flowed = len(first) // 10  # they were ranked before the first job had read the topic
    window = split_windows(EventLog.from_events([*history, *first[:flowed]]), lengths)
    assert 0 == window.train_from < window.order_from < window.gate_from
    later = split_windows(EventLog.from_events([*history, *first]), lengths, window.gate_to, window.gate_from)
    assert later.gate_from >= window.gate_to


def test_a_short_last_segment_shortens_no_window() -> None:
    history, segment, last = (
        _events(0, 70 * DAY_MS),
        _events(70 * DAY_MS, 90 * DAY_MS),
        _events(90 * DAY_MS, 91 * DAY_MS),
    )
    data = DemoData("", (), (), history, [Segment("1", segment), Segment("2", last)])
    assert data.windows() == WindowLengths()


def test_a_single_segment_is_judged_by_the_history_alone() -> None:
    data = DemoData("", (), (), _events(0, 8 * DAY_MS), [Segment("1", _events(8 * DAY_MS, 9 * DAY_MS))])
    assert data.windows() == WindowLengths(order_days=3.0, gate_days=1.5)


def test_windows_of_a_short_history_leave_half_of_its_time_before_the_gate_to_the_encoder() -> None:
    lengths = window_lengths(2 * DAY_MS, DAY_MS)
    assert lengths.gate_days == GATE_SHARE
    assert lengths.order_days == pytest.approx((2 - GATE_SHARE) / 2)


def test_events_at_one_time_have_the_shortest_windows_that_the_retraining_job_takes() -> None:
    assert window_lengths(0, 0) == WindowLengths(order_days=0.01, gate_days=0.01)


def test_the_last_fifth_of_the_last_segment_is_held_back() -> None:
    events = _events(0, DAY_MS, 100)
    segments, paced = hold_back([Segment("1", events), Segment("2", events[:41])])
    assert [len(segment.events) for segment in segments] == [100, 33]
    assert [*segments[-1].events, *paced] == events[:41]


def test_no_events_span_no_time() -> None:
    assert span_ms([]) == 0


def test_households_are_played_in_order_of_time_with_the_items_that_they_bought() -> None:
    schedule = HouseholdSchedule(households=5, history_weeks=4, replay_weeks=3, reshare_every=2)
    data = household_data(schedule, random_seed=0)
    assert [segment.name for segment in data.segments] == ["weeks 5 to 6", "week 7"]
    events = [*data.history, *data.segments[0].events, *data.segments[1].events]
    assert [event.ts for event in events] == sorted(event.ts for event in events)
    assert len({event.user_id for event in events}) == 5
    assert {item.item_id for item in data.items} <= {event.item_id for event in events}


def test_weeks_after_the_last_are_refused() -> None:
    with pytest.raises(UsageError, match="end after week 53"):
        HouseholdSchedule(history_weeks=50, replay_weeks=4).segments()


def test_the_full_schedule_is_the_year_of_everybody() -> None:
    schedule = HouseholdSchedule.full()
    assert schedule.households is None
    assert schedule.segments()[-1][1] == 53
