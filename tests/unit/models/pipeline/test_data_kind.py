"""The kind of data is found from the events, and said with the figures that decided."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from anabranch.messages import Event
from models.data.event_log import EventLog
from models.pipeline.data_kind import MIN_EVENTS, KindDecision, find_kind
from tests.support.logged_events import events_of_log

DAY_MS = 86_400_000
MINUTE_MS = 60_000


def log(rows: Iterable[tuple[int, int, int, str]]) -> EventLog:
    """Events from (user, item, ms, type)."""
    return EventLog.from_events(
        Event(event_id=str(number), user_id=f"u{user}", item_id=f"i{item}", ts=1 + ms, type=kind)  # type: ignore[arg-type]
        for number, (user, item, ms, kind) in enumerate(rows)
    )


def baskets(users: int = 40, weeks: int = 6) -> EventLog:
    """Ten items every week, half of them the same ones."""
    return log(
        (user, item if item < 5 else 1000 + 50 * week + user * 7 + item, week * 7 * DAY_MS + item, "purchase")
        for user in range(users)
        for week in range(weeks)
        for item in range(10)
    )


def marketplace(users: int = 100) -> EventLog:
    """One visit each: look at an item, at another, at the first again, and put it into the cart."""
    views = ((0, "view"), (1, "view"), (0, "view"), (0, "cart"), (2, "view"))
    return log(
        (user, user * 3 + item, user * DAY_MS + step * MINUTE_MS, kind)
        for user in range(users)
        for step, (item, kind) in enumerate(views)
    )


def reviews(users: int = 50, steps: int = 8) -> EventLog:
    """One item every few days, never the same."""
    return log(
        (user, user * 31 + step, step * 5 * DAY_MS, "purchase") for user in range(users) for step in range(steps)
    )


def films(users: int = 20) -> EventLog:
    """Sixty films each, entered in one evening, never the same."""
    return log(
        (user, user * 7 + step, user * DAY_MS + step * 1000, "view") for user in range(users) for step in range(60)
    )


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        (baskets(), "baskets"),
        (marketplace(), "sessions"),
        (reviews(), "histories"),
        (reviews(steps=60), "long_histories"),
        (films(), "long_histories"),
    ],
    ids=["baskets", "sessions", "histories", "long histories", "long histories of one evening"],
)
def test_a_kind_is_found_whatever_it_is_called(events: EventLog, kind: str) -> None:
    assert find_kind(events).kind == kind


def test_sessions_with_user_ids_of_their_own_are_sessions_though_nothing_recurs() -> None:
    events = log(
        (user, user * 5 + step, user * DAY_MS + step * MINUTE_MS, "view") for user in range(100) for step in range(5)
    )
    assert find_kind(events).kind == "sessions"


def test_a_grocers_first_week_in_which_nobody_could_repeat_is_not_taken_for_histories() -> None:
    assert find_kind(baskets(weeks=1)).kind == "baskets"


def test_too_few_events_are_said_and_exclude_nothing_for_good() -> None:
    few = reviews(users=5)
    assert len(few) < MIN_EVENTS
    decision = find_kind(few)
    assert decision.kind == "baskets"
    assert "too few to tell" in decision.reason


def test_no_event_at_all_is_baskets() -> None:
    assert find_kind(EventLog.from_events([])).kind == "baskets"


def test_the_reason_gives_the_figures_and_the_manifest_keeps_them() -> None:
    decision = find_kind(marketplace())
    assert decision.figures["session_repeats"] == pytest.approx(2 / 4)
    assert "50.0%" in decision.reason
    assert decision.describe() == {"name": "sessions", "reason": decision.reason, **decision.figures}


def test_a_kind_that_the_user_names_is_taken() -> None:
    assert KindDecision.named("histories").describe() == {"name": "histories", "reason": "named by the user"}


def test_searches_are_no_repeats() -> None:
    events = reviews()
    with_searches = EventLog.from_events(
        [*events_of_log(events), *(search(f"u{user}", number) for user in range(50) for number in range(20))]
    )
    assert find_kind(with_searches).figures["repeats"] == find_kind(events).figures["repeats"] == 0


def search(user: str, number: int) -> Event:
    return Event(event_id=f"s{user}{number}", user_id=user, type="search", query="lamp", ts=1 + number * DAY_MS)


def test_figures_are_shares_and_means() -> None:
    figures = find_kind(baskets()).figures
    assert figures["repeats"] == pytest.approx(40 * 5 * 5 / (2400 - 40), rel=0.2)
    assert figures["events_per_session"] == 10
    assert figures["sessions_per_user"] == 6
    assert figures["purchases"] == 1
    assert np.isfinite(list(figures.values())).all()
