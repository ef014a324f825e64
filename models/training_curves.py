"""Training curves: losses by step, recorded and passed on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

Curve = Callable[[str, float, int], None]
"""Called with the name of a curve, a value and its step."""
OpenCurve = Callable[[str], AbstractContextManager[Curve]]
"""Opens a writer for the curves of a release, given the release's name."""
Points = list[tuple[int, float]]
"""Steps in ascending order, each with its value."""

MAX_POINTS = 200


def no_curve(name: str, value: float, step: int) -> None:
    """A curve writer that does nothing."""


def no_curves(release: str) -> AbstractContextManager[Curve]:
    """Opens a curve writer that does nothing."""
    return nullcontext(no_curve)


class CurveRecorder:
    """Records every point and passes it on to `curve`."""

    def __init__(self, curve: Curve) -> None:
        self._curve = curve
        self._points: dict[str, Points] = {}

    def for_stage(self, stage: str) -> Curve:
        """A curve writer that puts the stage's name and a slash before the names of curves."""

        def record(name: str, value: float, step: int) -> None:
            name = f"{stage}/{name}"
            self._points.setdefault(name, []).append((step, value))
            self._curve(name, value, step)

        return record

    def thinned(self) -> dict[str, Points]:
        """Name → at most `MAX_POINTS` of its points, evenly spaced, including the first and the last."""
        return {name: thin(points, MAX_POINTS) for name, points in self._points.items()}


def thin(points: Points, count: int) -> Points:
    """At most `count` (2 or more) of the points, evenly spaced, including the first and the last."""
    if len(points) <= count:
        return list(points)
    return [points[index] for index in np.linspace(0, len(points) - 1, count).round().astype(int)]
