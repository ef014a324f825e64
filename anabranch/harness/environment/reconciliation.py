"""Balancing what came out against what went in: every event must have exactly one answer. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set

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
    covered: int
    """Events whose feedback was published, and that a later ranking of their user answers with its own."""
    lost: int
    """Events with none of these."""
    duplicated: int
    """Answers beyond an event's first."""
    out_of_order: int
    """Rankings that stand behind a later event's of the same user."""

    @property
    def balanced(self) -> bool:
        """Whether every published event was ranked or dead-lettered, once and in order."""
        return self.lost == self.duplicated == self.out_of_order == 0


def ledger(
    events: Mapping[Place, Published],
    answers: Sequence[Answer],
    feedback: Sequence[Feedback],
    dead: Sequence[Place],
    latest: bool = False,
) -> Ledger:
    """Balance the published events against what came out. `answers` stand in log order per partition.

    `latest`: there need be a ranking after a user's last event of a batch alone.
    """
    ranked = Counter(answer.place for answer in answers)
    settled = ranked + Counter(dead)
    covered = _covered(events.keys() - settled.keys(), answers, feedback) if latest else set()
    return Ledger(
        events_published=len(events),
        events_ranked=len(ranked.keys() & events.keys()),
        rankings_published=len(answers),
        feedback_published=len(feedback),
        dead_letters=len(dead),
        covered=len(covered),
        lost=len(events.keys() - settled.keys() - covered),
        duplicated=settled.total() - len(settled),
        out_of_order=_out_of_order(answers),
    )


def _covered(unanswered: Set[Place], answers: Sequence[Answer], feedback: Sequence[Feedback]) -> set[Place]:
    """Events whose feedback was published, and that stand before the cause of a ranking of the same user."""
    newest: dict[tuple[int, str], int] = {}
    for answer in answers:
        partition, offset = answer.place
        user = partition, answer.ranking.user_id
        newest[user] = max(newest.get(user, -1), offset)
    fed_back = {(one.partition, one.offset): one.event.user_id for one in feedback}
    return {
        (partition, offset)
        for partition, offset in unanswered & fed_back.keys()
        if offset < newest.get((partition, fed_back[partition, offset]), -1)
    }


def _out_of_order(answers: Sequence[Answer]) -> int:
    newest: dict[str, Place] = {}
    behind = 0
    for answer in answers:
        place = answer.place
        behind += place < newest.get(answer.ranking.user_id, (-1, -1))
        newest[answer.ranking.user_id] = place
    return behind
