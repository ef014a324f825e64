"""What a demo measured: counts, speed, latency, releases and the prequential evaluation. Pure functions of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct, field, to_builtins

from anabranch.harness.demo.stage_clock import StageCost
from anabranch.harness.environment.reconciliation import EventPosition, LoggedEvent, LoggedRanking, Reconciliation
from anabranch.kafka.offsets import Offsets
from anabranch.messages import ReleaseNotice

OffsetSpan = tuple[Offsets, Offsets]
"""A part of `events`: first offsets, and end offsets (excluded), by partition."""


class Summary(Struct, frozen=True, kw_only=True):
    """The content of `summary.json`."""

    broker: str
    topic_prefix: str
    random_seed: int = field(name="seed")
    data: str
    kind: str
    discover: bool
    reconciliation: Reconciliation
    events_per_second: float
    latency_ms: dict[str, float]
    """From an event to its ranking."""
    clicks: int
    """Events of a visitor, among those published."""
    click_to_slate_ms: dict[str, float]
    """From a visitor's click, sent to the collector, to the slate of the serving API that follows it."""
    releases: list[dict[str, Any]]
    prequential: dict[str, Any]
    """Of all events that found a slate; under `releases`, of those that each release served."""
    stages: list[StageCost]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """JSON values, with the counts of the reconciliation at the top level."""
        fields: dict[str, Any] = to_builtins(self)
        counts: dict[str, Any] = fields.pop("reconciliation")
        return counts | fields


def latency_percentiles_ms(
    events: Mapping[EventPosition, LoggedEvent], rankings: Sequence[LoggedRanking]
) -> dict[str, float]:
    """Milliseconds from an event's append to its ranking's append: p50, p95 and p99 over the rankings of `events`."""
    latencies_ms = [
        ranking.appended_ms - events[position].appended_ms
        for ranking in rankings
        if (position := ranking.event_position) in events
    ]
    if not latencies_ms:
        return {}
    return {f"p{percent}": float(np.percentile(latencies_ms, percent)) for percent in (50, 95, 99)}


def ranked_per_second(
    segments: Sequence[tuple[Mapping[EventPosition, LoggedEvent], Sequence[LoggedRanking]]],
) -> float:
    """Events ranked per second, over segments: each lasts from its first event's append to its last ranking's."""
    ranked, duration_ms = 0, 0
    for events, rankings in segments:
        appended_ms = [ranking.appended_ms for ranking in rankings if ranking.event_position in events]
        if appended_ms:
            ranked += len(appended_ms)
            duration_ms += max(appended_ms) - min(event.appended_ms for event in events.values())
    return 1000 * ranked / duration_ms if duration_ms else 0.0


def events_within(events: Mapping[EventPosition, LoggedEvent], span: OffsetSpan) -> dict[EventPosition, LoggedEvent]:
    """The events of a part of the log."""
    first_offsets, end_offsets = span
    return {
        (partition, offset): event
        for (partition, offset), event in events.items()
        if first_offsets.get(partition, 0) <= offset < end_offsets[partition]
    }


def release_rows(notices: Mapping[str, ReleaseNotice]) -> list[dict[str, Any]]:
    """The status of every release, with the figures of its gate."""
    return [
        {"id": notice.release, "status": notice.status, "reason": notice.reason, "gate": notice.gate}
        for notice in notices.values()
    ]
