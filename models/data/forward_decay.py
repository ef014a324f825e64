"""Forward decay: exponentially decayed counts that need no update as time passes.

Cormode, Shkapenyuk, Srivastava and Xu, Forward Decay: A Practical Time Decay Model for Streaming Systems, ICDE 2009.
"""

from __future__ import annotations

from collections.abc import Callable

MAX_EXPONENT = 512.0
"""Weights up to 2 to this power are given. A float holds twice the power, so sums of weights stay finite."""


class ForwardDecay:
    """Gives newer events more weight instead of reducing the weight of older ones."""

    def __init__(self, half_life_ms: int, rescale: Callable[[float], None]) -> None:
        """`rescale(factor)` must multiply all sums of weights by the factor, which may be 0."""
        self._half_life_ms = half_life_ms
        self._rescale = rescale
        self._origin: int | None = None

    def weight(self, ts: int) -> float:
        """Weight of an event at `ts` (ms): 1 at the first call, doubling with every half-life after its `ts`.

        Where that would be too large, it calls `rescale`, and gives weights relative to this event from now on. So read
        the sum that a weight is added to after this call.
        """
        if self._origin is None:
            self._origin = ts
        exponent = (ts - self._origin) / self._half_life_ms
        if exponent > MAX_EXPONENT:
            self._rescale(2.0**-exponent)
            self._origin, exponent = ts, 0.0
        return float(2.0**exponent)
