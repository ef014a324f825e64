"""The geometry of charts, in hundredths of their width or height."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from models.metrics.bootstrap import Interval
from models.pipeline.release_gate import Finding
from models.training_curves import Points

STEPS = (1, 2, 5, 10)
TICKS = 3
"""On a scale, about."""
SMOOTHED = 0.1
"""Share of a curve's points that a smoothed one is the mean of."""


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` along a chart's width."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Scale:
        """Holds all values and 0, with a little room on the sides that have any."""
        held = [0.0, *values]
        low, high = min(held), max(held)
        if low == high:
            return cls(0.0, 1.0)
        room = 0.05 * (high - low)
        return cls(low - room if low < 0 else 0.0, high + room if high > 0 else 0.0)

    @classmethod
    def of_intervals(cls, intervals: Iterable[Interval | Finding]) -> Scale:
        """Holds all intervals and 0."""
        return cls.of(end for one in intervals for end in (one.low, one.high))

    def at(self, value: float) -> float:
        """0 to 100, at the edge for what lies beyond it."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def ticks(self) -> list[float]:
        """Round values on the scale, 0 among them."""
        least = (self.high - self.low) / TICKS
        magnitude = 10.0 ** math.floor(math.log10(least))
        step = next(magnitude * one for one in STEPS if magnitude * one >= least)
        return [step * at for at in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


@dataclass(frozen=True)
class LineChart:
    """A curve as two lines: every point, and their running mean."""

    first_step: int
    last_step: int
    low: float
    high: float
    last: float
    """Of the running mean."""
    points: str
    smoothed: str
    """Both for SVG, in hundredths of width and height, down from the top."""

    @classmethod
    def of(cls, points: Points) -> LineChart:
        """Of one point or more."""
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
    """Means of the values around each, fewer of them near the ends."""
    reach = int(SMOOTHED * len(values) / 2)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    first, end = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(values))
    means: list[float] = ((sums[end] - sums[first]) / (end - first)).tolist()
    return means
