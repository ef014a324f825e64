"""Balancing what came out against what went in: every event must have exactly one answer. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct

from anabranch.messages import Event, Feedback, Ranking

Place = tuple[int, int]
"""(partition, offset) in `events`."""


class Published(Struct, frozen=True):
    """An event as the log holds it."""

    event: Event
    appended: int
    """ms, when the broker appended it."""


class Answer(Struct, frozen=True):
    """A ranking as the log holds it."""

    ranking: Ranking
    appended: int

    @property
    def place(self) -> Place:
        """Where the event stands that this answers."""
        return self.ranking.cause.partition, self.ranking.cause.offset


class Ledger(Struct, frozen=True, kw_only=True):
    """Every event must have exactly one answer: a ranking or a dead letter, a user's rankings in log order."""

    events_published: int
    events_ranked: int
    rankings_published: int
    feedback_published: int
    dead_letters: int
    lost: int
    """Events with neither a ranking nor a dead letter."""
    duplicated: int
    """Answers beyond an event's first."""
    out_of_order: int
    """Rankings that stand behind a later event's of the same user."""

    @property
    def balanced(self) -> bool:
        """Whether every published event was ranked or dead-lettered, once and in order."""
        return self.lost == self.duplicated == self.out_of_order == 0


def ledger(
    events: Mapping[Place, Published], answers: Sequence[Answer], feedback: Sequence[Feedback], dead: Sequence[Place]
) -> Ledger:
    """Balance the published events against what came out. `answers` stand in log order per partition."""
    ranked = Counter(answer.place for answer in answers)
    settled = ranked + Counter(dead)
    return Ledger(
        events_published=len(events),
        events_ranked=len(ranked.keys() & events.keys()),
        rankings_published=len(answers),
        feedback_published=len(feedback),
        dead_letters=len(dead),
        lost=len(events.keys() - settled.keys()),
        duplicated=settled.total() - len(settled),
        out_of_order=_out_of_order(answers),
    )


def _out_of_order(answers: Sequence[Answer]) -> int:
    newest: dict[str, Place] = {}
    behind = 0
    for answer in answers:
        place = answer.place
        behind += place < newest.get(answer.ranking.user_id, (-1, -1))
        newest[answer.ranking.user_id] = place
    return behind
