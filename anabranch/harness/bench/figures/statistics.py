"""Figures of measurements: spread, percentiles and rates."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple, Self

import numpy as np

Figures = dict[str, float]


class Rate(NamedTuple):
    """How fast messages were appended to a topic."""

    per_second: float
    seconds: float
    """From the first append to the last."""

    @classmethod
    def from_append_times(cls, appended_ms: Sequence[int]) -> Self:
        """The rate from the first message on, so that the start of a process does not count.

        The resolution of the append times is 1 ms, the shortest duration that is assumed.
        """
        seconds = max(1, max(appended_ms) - min(appended_ms)) / 1000
        return cls(len(appended_ms) / seconds, seconds)


def rate_by_segment(appended_ms: Sequence[int], count: int) -> list[float]:
    """Messages per second in each of `count` segments with the same number of messages.

    A segment starts at the end of the one before.
    """
    segments = np.array_split(np.sort(appended_ms), count)
    starts = [segments[0][0], *(segment[-1] for segment in segments)]
    return [
        1000 * len(segment) / max(1, int(segment[-1] - start)) for start, segment in zip(starts, segments, strict=False)
    ]


def spread(values: Sequence[float]) -> Figures:
    """`mean`, `sd` (sample standard deviation; 0 for one value), `min` and `max`."""
    deviation = stdev(values) if len(values) > 1 else 0.0
    return {"mean": mean(values), "sd": deviation, "min": min(values), "max": max(values)}


def spread_by_name(rows: Sequence[Figures]) -> dict[str, Figures]:
    """The spread of each figure over several rows that have the same names."""
    return {name: spread([row[name] for row in rows]) for name in rows[0]}


def percentiles(values: Sequence[float]) -> Figures:
    """`p50`, `p95`, `p99` and `max`."""
    return {f"p{percent}": float(np.percentile(values, percent)) for percent in (50, 95, 99)} | {
        "max": float(max(values))
    }
