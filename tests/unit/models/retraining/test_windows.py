from __future__ import annotations

import numpy as np
import pytest

from anabranch.messages import ReleaseNotice
from anabranch.release import DataWindow
from models.data.event_log import EventColumns, EventLog
from models.retraining.topics_io import last_gated_ms
from models.retraining.windows import (
    DAY_MS,
    NotEnoughData,
    NotEnoughNewData,
    WindowLengths,
    require_users,
    split_windows,
)

WEEK = WindowLengths(order_days=14, gate_days=7)


def log_until(days: float) -> EventLog:
    """An event an hour, the last one `days` after the first."""
    ts = np.arange(0, int(days * DAY_MS) + 1, 3_600_000)
    one = np.zeros(len(ts), np.int64)
    return EventLog.from_columns(EventColumns(one, one, one, ts, one), user_ids=("u",), item_ids=("i",))


def notice(release: str, status: str, gate_to: int | None) -> ReleaseNotice:
    return ReleaseNotice(
        release=release,
        status=status,
        ts=1,
        location=release,
        manifest_sha256="00",
        gate_from=None if gate_to is None else gate_to - 1,
        gate_to=gate_to,
    )


def test_windows_follow_each_other_and_the_newest_is_the_gates() -> None:
    log = log_until(40)
    window = split_windows(log, WEEK)
    assert window.train_from == 0
    assert window.gate_to == log.ts[-1] + 1
    assert window.gate_to - window.gate_from == 7 * DAY_MS
    assert window.gate_from - window.order_from == 14 * DAY_MS
    assert window.events == len(log)


def test_windows_of_runs_a_week_apart_do_not_overlap() -> None:
    first = split_windows(log_until(40), WEEK)
    second = split_windows(log_until(47.5), WEEK, first.gate_to)
    assert second.gate_from >= first.gate_to
    assert second.gate_to - second.gate_from == 7 * DAY_MS


def test_a_week_that_ends_some_hours_earlier_than_the_last_is_enough_and_begins_where_that_ended() -> None:
    first = split_windows(log_until(40), WEEK)
    second = split_windows(log_until(46.5), WEEK, first.gate_to)
    assert second.gate_from == first.gate_to
    assert second.gate_from - second.order_from == 14 * DAY_MS


def test_a_childs_list_ranker_trains_on_days_that_its_parent_did_not() -> None:
    first = split_windows(log_until(40), WEEK)
    second = split_windows(log_until(47.5), WEEK, first.gate_to, trained_until_ms=first.gate_from)
    assert second.order_from == first.gate_from


def test_an_old_parent_leaves_the_list_ranker_its_usual_days() -> None:
    first = split_windows(log_until(40), WEEK)
    later = split_windows(log_until(100), WEEK, first.gate_to, trained_until_ms=first.gate_from)
    assert later.gate_from - later.order_from == 14 * DAY_MS


def test_what_the_gate_has_used_it_does_not_use_again() -> None:
    first = split_windows(log_until(40), WEEK)
    with pytest.raises(NotEnoughNewData, match=r"2\.0 days of events are new and the gate needs 6\.3 days") as raised:
        split_windows(log_until(42), WEEK, first.gate_to)
    assert "run again after 4.3 days more of events, or shorten --gate-days (7)" in str(raised.value)
    assert split_windows(log_until(42), WindowLengths(14, gate_days=2), first.gate_to).gate_from == first.gate_to


def test_without_an_event_since_nothing_is_fresh() -> None:
    log = log_until(40)
    with pytest.raises(NotEnoughNewData, match="0 seconds of events are new"):
        split_windows(log, WEEK, split_windows(log, WEEK).gate_to)
    with pytest.raises(NotEnoughNewData, match="0 seconds of events are new"):
        split_windows(log, WEEK, 60 * DAY_MS)


@pytest.mark.parametrize("status", ["live", "rejected", "retired"])
def test_a_window_is_used_whatever_became_of_its_release(status: str) -> None:
    announced = {"r1": notice("r1", status, 7), "r2": notice("r2", "live", 5), "r3": notice("r3", "live", None)}
    assert last_gated_ms(announced) == 7


def test_nothing_is_used_before_the_first_release() -> None:
    assert last_gated_ms({}) == 0
    assert last_gated_ms({"r1": notice("r1", "live", None)}) == 0


def test_a_log_that_leaves_nothing_for_the_encoder_says_what_to_do() -> None:
    remedy = r"span 20\.9 days, and .* leaves none .* shorten --order-days \(14\) or --gate-days \(7\)"
    with pytest.raises(NotEnoughData, match=remedy):
        split_windows(log_until(20.9), WEEK)


def test_an_empty_log_says_what_to_do() -> None:
    with pytest.raises(NotEnoughData, match="publish some to `events`"):
        split_windows(EventLog.from_events([]), WEEK)


def visits(*rows: tuple[int, float]) -> EventLog:
    """Events from (user, day)."""
    user, day = zip(*rows, strict=True)
    return EventLog.from_columns(
        EventColumns(
            np.array(user), np.zeros(len(user)), np.zeros(len(user)), np.array(day) * DAY_MS, -np.ones(len(user))
        ),
        user_ids=tuple(map(str, range(10))),
        item_ids=("i",),
    )


GATE_FROM_DAY_5 = DataWindow(train_from=0, order_from=DAY_MS, gate_from=5 * DAY_MS, gate_to=10 * DAY_MS, events=6)


def test_users_whose_first_event_is_in_the_gates_window_have_no_slate_to_be_scored_on() -> None:
    log = visits((1, 0), (2, 1), (1, 6), (3, 6), (4, 7), (4, 8))  # 2 never returns, 3 is new and comes once
    require_users(log, GATE_FROM_DAY_5, users=2)
    with pytest.raises(NotEnoughNewData, match=r"^2 users have events in the gate's window .* needs 3"):
        require_users(log, GATE_FROM_DAY_5, users=3)


def test_windows_of_minutes_are_told_in_minutes() -> None:
    minutes = WindowLengths(order_days=0.02, gate_days=0.02)
    ts = np.arange(0, 180 * 60_000, 60_000)
    one = np.zeros(len(ts), np.int64)
    log = EventLog.from_columns(EventColumns(one, one, one, ts, one), user_ids=("u",), item_ids=("i",))
    window = split_windows(log, minutes)
    assert (window.gate_to - window.gate_from, window.gate_from - window.order_from) == (1_728_000, 1_728_000)
    with pytest.raises(NotEnoughNewData, match=r"10\.0 minutes of events are new and the gate needs 25\.9 minutes"):
        split_windows(log, minutes, int(log.ts[-1]) + 1 - 600_000)
    with pytest.raises(NotEnoughData, match=r"span 30\.0 minutes, and the newest 30\.0 minutes are for"):
        split_windows(log.take(slice(0, 31)), minutes)


def test_events_at_one_time_cannot_be_split() -> None:
    one = np.zeros(5, np.int64)
    log = EventLog.from_columns(EventColumns(one, one, one, one + 10**12, one), user_ids=("u",), item_ids=("i",))
    with pytest.raises(NotEnoughData, match=r"all 5 events are at one time, 2001-09-09T01:46:40Z, .* give them times"):
        split_windows(log, WEEK)
