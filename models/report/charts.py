"""Geometry of the report's charts, in percent of their width or height.

The templates draw them as SVG without styles of its own: colours and dark mode come from the page's CSS, an axis is as
wide as its table cell, and a row is under 1 kB. A plotting library fixes colours and sizes in every drawing, and a
report has up to some hundred of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from models.gate.findings import Finding
from models.metrics.bootstrap import Interval
from models.training_curves import Points

STEPS = (1, 2, 5, 10)
TICKS = 3
"""Approximate number of ticks on a scale."""
SMOOTHING_SHARE = 0.1
"""Share of a curve's points in the running mean at one point."""


@dataclass(frozen=True)
class Scale:
    """A linear scale from `low` to `high` along a chart's width."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float]) -> Scale:
        """A scale that contains all values and 0, with a margin of 5 % on each side of 0 that has values."""
        included = [0.0, *values]
        low, high = min(included), max(included)
        if low == high:
            return cls(0.0, 1.0)
        room = 0.05 * (high - low)
        return cls(low - room if low < 0 else 0.0, high + room if high > 0 else 0.0)

    @classmethod
    def around_intervals(cls, intervals: Iterable[Interval | Finding]) -> Scale:
        """A scale that contains all intervals and 0."""
        return cls.around(end for interval in intervals for end in (interval.low, interval.high))

    def percent(self, value: float) -> float:
        """Position of a value, 0 to 100; values beyond an end are drawn at the end."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def ticks(self) -> list[float]:
        """Round values on the scale, including 0."""
        least = (self.high - self.low) / TICKS
        magnitude = 10.0 ** math.floor(math.log10(least))
        step = next(magnitude * factor for factor in STEPS if magnitude * factor >= least)
        return [step * index for index in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


@dataclass(frozen=True)
class LineChart:
    """A curve as two polylines: all points, and their running mean."""

    first_step: int
    last_step: int
    low: float
    high: float
    last: float
    """Last value of the running mean."""
    points: str
    smoothed: str
    """Both as SVG points, in percent of width and height from the top left corner."""

    @classmethod
    def from_points(cls, points: Points) -> LineChart:
        """The chart of at least one point."""
        steps, values = (list(column) for column in zip(*points, strict=True))
        low, high = min(values), max(values)
        mean = running_mean(values)

        def line(ys: Sequence[float]) -> str:
            width, height = steps[-1] - steps[0] or 1, high - low or 1.0
            return " ".join(
                f"{100 * (step - steps[0]) / width:.2f},{100 * (high - y) / height:.2f}"
                for step, y in zip(steps, ys, strict=True)
            )

        return cls(steps[0], steps[-1], low, high, mean[-1], line(values), line(mean))


def running_mean(values: Sequence[float]) -> list[float]:
    """Mean of the values around each value; of fewer values near the ends."""
    reach = int(SMOOTHING_SHARE * len(values) / 2)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first, end = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
    means: list[float] = ((sums[end] - sums[first]) / (end - first)).tolist()
    return means
