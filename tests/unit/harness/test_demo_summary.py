from __future__ import annotations

from anabranch.harness.demo.summary import events_within, latency_percentiles_ms, ranked_per_second
from anabranch.harness.environment.reconciliation import EventPosition, LoggedEvent, LoggedRanking, reconcile
from anabranch.messages import Cause, Event, Feedback, Ranking


def _event(offset: int, user: str = "ann", appended: int = 0) -> tuple[EventPosition, LoggedEvent]:
    event = Event(event_id=f"e{offset}", user_id=user, type="purchase", ts=0, item_id="i")
    return (0, offset), LoggedEvent(event, appended)


def _answer(offset: int, user: str = "ann", appended: int = 0) -> LoggedRanking:
    cause = Cause(event_id=f"e{offset}", partition=0, offset=offset, ts=0)
    return LoggedRanking(Ranking(user_id=user, release="r1", cause=cause, slate=[], ts=0), appended)


def test_a_ledger_balances_when_every_event_has_one_answer() -> None:
    counts = reconcile(dict([_event(0), _event(1), _event(2)]), [_answer(0), _answer(2)], [], dead_letters=[(0, 1)])
    assert counts.balanced
    assert (counts.events_published, counts.events_ranked, counts.dead_letters) == (3, 2, 1)


def test_an_event_without_an_answer_is_lost() -> None:
    counts = reconcile(dict([_event(0), _event(1)]), [_answer(0)], [], dead_letters=[])
    assert counts.lost == 1 and not counts.balanced


def test_an_impression_needs_no_answer() -> None:
    impression = Event(event_id="e1", user_id="ann", type="impression", ts=0, shown=("i",))
    counts = reconcile(dict([_event(0), ((0, 1), LoggedEvent(impression, 0))]), [_answer(0)], [], dead_letters=[])
    assert counts.balanced


def test_a_second_ranking_of_an_event_is_a_duplicate() -> None:
    counts = reconcile(dict([_event(0)]), [_answer(0), _answer(0)], [], dead_letters=[])
    assert counts.duplicated == 1 and not counts.balanced


def test_an_event_both_ranked_and_dead_lettered_is_a_duplicate() -> None:
    counts = reconcile(dict([_event(0)]), [_answer(0)], [], dead_letters=[(0, 0)])
    assert counts.duplicated == 1 and not counts.balanced


def test_a_later_ranking_of_the_user_covers_an_event_where_the_latest_alone_are_ranked() -> None:
    events = dict([_event(0), _event(1), _event(2, "bob"), _event(3)])
    feedback = [
        Feedback(event=published.event, partition=0, offset=offset) for (_, offset), published in events.items()
    ]
    counts = reconcile(events, [_answer(1)], feedback, dead_letters=[], latest_only=True)
    assert (counts.events_ranked, counts.covered, counts.lost) == (1, 1, 2), "neither bob's nor ann's last is covered"
    assert reconcile(events, [_answer(1)], feedback[1:], dead_letters=[], latest_only=True).lost == 3, (
        "nor is one without feedback"
    )
    assert reconcile(events, [_answer(1)], feedback, dead_letters=[]).lost == 3


def test_order_counts_per_user() -> None:
    events = dict([_event(0), _event(1, "bob"), _event(2)])
    assert reconcile(events, [_answer(1, "bob"), _answer(0), _answer(2)], [], dead_letters=[]).out_of_order == 0
    assert reconcile(events, [_answer(2), _answer(1, "bob"), _answer(0)], [], dead_letters=[]).out_of_order == 1


def test_latency_is_append_to_append_over_the_events_asked_for() -> None:
    events = dict([_event(0, appended=100), _event(1, appended=200)])
    answers = [_answer(0, appended=110), _answer(1, appended=230), _answer(7, appended=9_999)]
    assert latency_percentiles_ms(events, answers) == {"p50": 20.0, "p95": 29.0, "p99": 29.8}


def test_throughput_adds_stretches_and_leaves_out_the_time_between() -> None:
    first = dict([_event(0, appended=0), _event(1, appended=0)])
    second = dict([_event(2, appended=60_000), _event(3, appended=60_000)])
    answers = [
        _answer(0, appended=500),
        _answer(1, appended=1_000),
        _answer(2, appended=60_500),
        _answer(3, appended=61_000),
    ]
    assert ranked_per_second([(first, answers), (second, answers)]) == 2.0


def test_a_stretch_is_cut_by_offset() -> None:
    events = dict([_event(0), _event(1), _event(2)])
    assert set(events_within(events, ({0: 1}, {0: 2}))) == {(0, 1)}
