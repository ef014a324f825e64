"""What happened in a demo: the ledger, the figures, and the table that shows them. Pure: records in, summary out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct, to_builtins

from anabranch.harness.environment.reconciliation import Answer, Ledger, Place, Published
from anabranch.messages import ReleaseNotice
from models.evaluation.prequential import Comparison, Prequential


def latencies(events: Mapping[Place, Published], answers: Sequence[Answer]) -> dict[str, float]:
    """Milliseconds from event append to ranking append: p50, p95 and p99 over the answers to `events`."""
    waited = [answer.appended - events[place].appended for answer in answers if (place := answer.place) in events]
    if not waited:
        return {}
    return {f"p{q}": float(np.percentile(waited, q)) for q in (50, 95, 99)}


def throughput(stretches: Sequence[tuple[Mapping[Place, Published], Sequence[Answer]]]) -> float:
    """Events ranked a second over stretches of events, each from its first append to its last ranking's append."""
    ranked, milliseconds = 0, 0
    for events, answers in stretches:
        done = [answer.appended for answer in answers if answer.place in events]
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
