"""Learning curves: what training tells of its losses, step by step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

Curve = Callable[[str, float, int], None]
"""Told a name, a value and the step it belongs to."""
OpenCurve = Callable[[str], AbstractContextManager[Curve]]
"""Opens what writes the curves of a release, by the release's name."""
Points = list[tuple[int, float]]
"""Steps, ascending, with the value at each."""

MOST_POINTS = 200


def no_curve(name: str, value: float, step: int) -> None:
    """For who does not want to know."""


def no_curves(release: str) -> AbstractContextManager[Curve]:
    """For who does not want to know of any release."""
    return nullcontext(no_curve)


class KeptCurves:
    """Keeps every point, and passes it on."""

    def __init__(self, curve: Curve) -> None:
        self._curve = curve
        self._points: dict[str, Points] = {}

    def of(self, stage: str) -> Curve:
        """The curves of a stage: their names begin with its name and a slash."""

        def keep(name: str, value: float, step: int) -> None:
            name = f"{stage}/{name}"
            self._points.setdefault(name, []).append((step, value))
            self._curve(name, value, step)

        return keep

    def thinned(self) -> dict[str, Points]:
        """Name → at most `MOST_POINTS` of its points, evenly spaced, the first and the last among them."""
        return {name: thin(points, MOST_POINTS) for name, points in self._points.items()}


def thin(points: Points, most: int) -> Points:
    """At most so many of the points (2 or more), evenly spaced, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[at] for at in np.linspace(0, len(points) - 1, most).round().astype(int)]
