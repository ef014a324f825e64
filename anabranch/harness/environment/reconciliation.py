"""Reconciliation: every event that went in must have exactly one answer that came out. Pure functions of records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set

from msgspec import Struct

from anabranch.messages import Event, Feedback, Ranking

EventPosition = tuple[int, int]
"""(partition, offset) of an event on `events`."""


class LoggedEvent(Struct, frozen=True):
    """An event as the log holds it."""

    event: Event
    appended_ms: int
    """When the broker appended it."""


class LoggedRanking(Struct, frozen=True):
    """A ranking as the log holds it."""

    ranking: Ranking
    appended_ms: int
    """When the broker appended it."""

    @property
    def event_position(self) -> EventPosition:
        """Where the event stands that this ranking answers."""
        return self.ranking.cause.partition, self.ranking.cause.offset


class Reconciliation(Struct, frozen=True, kw_only=True):
    """Counts. An event's answer is a ranking or a dead letter; a user's rankings must stand in the order of events."""

    events_published: int
    events_ranked: int
    rankings_published: int
    feedback_published: int
    dead_letters: int
    covered: int
    """Events without an answer whose feedback was published, and whose user has a ranking for a later event."""
    lost: int
    """Events that have no answer and are not covered."""
    duplicated: int
    """Answers beyond an event's first."""
    out_of_order: int
    """Rankings that stand behind the ranking of a later event of the same user."""

    @property
    def balanced(self) -> bool:
        """Whether every published event was ranked or dead-lettered, once and in order."""
        return self.lost == self.duplicated == self.out_of_order == 0


def reconcile(
    events: Mapping[EventPosition, LoggedEvent],
    rankings: Sequence[LoggedRanking],
    feedback: Sequence[Feedback],
    dead_letters: Sequence[EventPosition],
    latest_only: bool = False,
) -> Reconciliation:
    """Compare the published events with their answers; impressions have none. `rankings` stand in log order within each
    partition.

    `latest_only`: rankers ran with `rank=latest`, so only the last event of a user in each batch has a ranking.
    """
    due = {position for position, logged in events.items() if logged.event.is_action}
    ranked = Counter(ranking.event_position for ranking in rankings)
    answers = ranked + Counter(dead_letters)
    covered = _covered(due - answers.keys(), rankings, feedback) if latest_only else set()
    return Reconciliation(
        events_published=len(events),
        events_ranked=len(ranked.keys() & events.keys()),
        rankings_published=len(rankings),
        feedback_published=len(feedback),
        dead_letters=len(dead_letters),
        covered=len(covered),
        lost=len(due - answers.keys() - covered),
        duplicated=answers.total() - len(answers),
        out_of_order=_count_out_of_order(rankings),
    )


def _covered(
    unanswered: Set[EventPosition], rankings: Sequence[LoggedRanking], feedback: Sequence[Feedback]
) -> set[EventPosition]:
    """Events whose feedback was published, and that stand before an event of the same user that has a ranking."""
    newest_offset: dict[tuple[int, str], int] = {}
    for ranking in rankings:
        partition, offset = ranking.event_position
        user = partition, ranking.ranking.user_id
        newest_offset[user] = max(newest_offset.get(user, -1), offset)
    user_ids = {(joined.partition, joined.offset): joined.event.user_id for joined in feedback}
    return {
        (partition, offset)
        for partition, offset in unanswered & user_ids.keys()
        if offset < newest_offset.get((partition, user_ids[partition, offset]), -1)
    }


def _count_out_of_order(rankings: Sequence[LoggedRanking]) -> int:
    last_position: dict[str, EventPosition] = {}
    count = 0
    for ranking in rankings:
        position = ranking.event_position
        count += position < last_position.get(ranking.ranking.user_id, (-1, -1))
        last_position[ranking.ranking.user_id] = position
    return count
