"""What happened in a demo: the ledger, the figures, and the table that shows them. Pure: records in, summary out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct, to_builtins

from anabranch.messages import Event, Feedback, Ranking, ReleaseNotice
from models.evaluation.prequential import Comparison, Prequential


class Published(Struct, frozen=True):
    """An event as the log holds it."""

    event: Event
    appended: int
    """ms, when the broker appended it."""


class Answer(Struct, frozen=True):
    """A ranking as the log holds it."""

    ranking: Ranking
    appended: int


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


Place = tuple[int, int]
"""(partition, offset) in `events`."""


def ledger(
    events: Mapping[Place, Published], answers: Sequence[Answer], feedback: Sequence[Feedback], dead: Sequence[Place]
) -> Ledger:
    """Balance the published events against what came out. `answers` stand in log order per partition."""
    ranked = Counter(map(_place, answers))
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


def latencies(events: Mapping[Place, Published], answers: Sequence[Answer]) -> dict[str, float]:
    """Milliseconds from event append to ranking append: p50, p95 and p99 over the answers to `events`."""
    waited = [answer.appended - events[place].appended for answer in answers if (place := _place(answer)) in events]
    if not waited:
        return {}
    return {f"p{q}": float(np.percentile(waited, q)) for q in (50, 95, 99)}


def throughput(stretches: Sequence[tuple[Mapping[Place, Published], Sequence[Answer]]]) -> float:
    """Events ranked a second over stretches of events, each from its first append to its last ranking's append."""
    ranked, milliseconds = 0, 0
    for events, answers in stretches:
        done = [answer.appended for answer in answers if _place(answer) in events]
        if done:
            ranked += len(done)
            milliseconds += max(done) - min(published.appended for published in events.values())
    return 1000 * ranked / milliseconds if milliseconds else 0.0


def within(
    events: Mapping[Place, Published], span: tuple[Mapping[int, int], Mapping[int, int]]
) -> dict[Place, Published]:
    """The events of a stretch of the log: from offsets, up to offsets, by partition."""
    first, end = span
    return {
        (partition, offset): published
        for (partition, offset), published in events.items()
        if first.get(partition, 0) <= offset < end[partition]
    }


def standings(prequential: Prequential) -> dict[str, Any]:
    """The account as `summary.json` has it: a ranker's scores by name, the leads, then releases and slices alike."""
    return _standing(prequential.overall) | {
        "releases": {name: _standing(comparison) for name, comparison in prequential.releases.items()},
        "slices": {name: _standing(comparison) for name, comparison in prequential.slices.items()},
    }


def release_rows(notices: Mapping[str, ReleaseNotice]) -> list[dict[str, Any]]:
    """What became of every release, with the gate's numbers."""
    return [
        {"id": one.release, "status": one.status, "reason": one.reason, "gate": one.gate} for one in notices.values()
    ]


def _standing(comparison: Comparison) -> dict[str, Any]:
    return {**to_builtins(comparison.scores), "lead": to_builtins(comparison.lead)}


def _place(answer: Answer) -> Place:
    return answer.ranking.cause.partition, answer.ranking.cause.offset


def _out_of_order(answers: Sequence[Answer]) -> int:
    newest: dict[str, Place] = {}
    behind = 0
    for answer in answers:
        place = _place(answer)
        behind += place < newest.get(answer.ranking.user_id, (-1, -1))
        newest[answer.ranking.user_id] = place
    return behind


class Summary(Struct, frozen=True, kw_only=True):
    """`summary.json`."""

    broker: str
    topic_prefix: str
    seed: int
    discover: bool
    ledger: Ledger
    events_per_second: float
    latency_ms: dict[str, float]
    releases: list[dict[str, Any]]
    prequential: dict[str, Any]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The ledger's figures stand at the top level."""
        fields: dict[str, Any] = to_builtins(self)
        counts: dict[str, Any] = fields.pop("ledger")
        return counts | fields
