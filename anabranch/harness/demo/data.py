"""What a demo plays: a catalogue, events to begin with, and segments of events with a re-share during each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anabranch.messages import Event, Item
from models.data.event_log import DAY_MS
from models.retraining.windows import WindowLengths

USUAL_WINDOWS = WindowLengths()
"""Those of `anabranch reshare`. No demo needs longer ones."""
MAX_HELD_BACK = 8_000
SHORTEST_DAYS = 0.01
"""Of the windows of `anabranch reshare`: a quarter of an hour."""
GATE_SHARE = 0.75
"""Length of the gate's window as a share of a segment. The gate uses every event once, and waits until events over 0.9
of its window are new. Some events of a segment are not: they flowed before the job beside them had read the topic."""


@dataclass(frozen=True)
class Segment:
    """Events in order of time. They flow while a release candidate is trained on those before them."""

    name: str
    events: Sequence[Event]


@dataclass(frozen=True)
class DemoData:
    """The data of a demo, in order of time from the history to the last segment."""

    title: str
    notes: Sequence[str]
    """What has to be said of it, one line per fact."""
    items: Sequence[Item]
    history: Sequence[Event]
    """Ranked by the release that needs no data. The first release candidate is trained on it."""
    segments: Sequence[Segment]

    def windows(self) -> WindowLengths:
        """Windows of the retraining job that fit these spans of time.

        The last segment may be short: the job that runs beside it judges by the segment before.
        """
        history_ms = span_ms(self.history)
        judged_ms = (span_ms(segment.events) for segment in self.segments[:-1])
        return window_lengths(history_ms, min(judged_ms, default=history_ms // 4))


def window_lengths(history_ms: int, segment_ms: int) -> WindowLengths:
    """The gate's window fits in a segment; the list ranker's leaves half of the history's other time to the encoder."""
    gate_days = min(USUAL_WINDOWS.gate_days, GATE_SHARE * segment_ms / DAY_MS)
    order_days = min(USUAL_WINDOWS.order_days, 2 * gate_days, (history_ms / DAY_MS - gate_days) / 2)
    return WindowLengths(max(order_days, SHORTEST_DAYS), max(gate_days, SHORTEST_DAYS))


def span_ms(events: Sequence[Event]) -> int:
    """Time from the first to the last of some events, in milliseconds."""
    return events[-1].ts - events[0].ts if events else 0


def hold_back(segments: Sequence[Segment]) -> tuple[Sequence[Segment], Sequence[Event]]:
    """The segments without the last events, and these, which latency is measured on: a fifth of a segment at most."""
    *others, last = segments
    count = len(last.events) - min(len(last.events) // 5, MAX_HELD_BACK)
    return [*others, Segment(last.name, last.events[:count])], last.events[count:]
