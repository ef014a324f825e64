"""Forward decay: exponentially decayed counts that need no update as time passes.

Cormode, Shkapenyuk, Srivastava and Xu, Forward Decay: A Practical Time Decay Model for Streaming Systems, ICDE 2009.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

MAX_EXPONENT = 512.0
"""Weights up to 2 to this power are given. A float holds twice the power, so sums of weights stay finite."""


class ForwardDecay:
    """Gives newer events more weight instead of reducing the weight of older ones."""

    def __init__(self, half_life_ms: int, rescale: Callable[[float], None], origin_ms: int | None = None) -> None:
        """`rescale(factor)` must multiply all sums of weights by the factor, which may be 0. With an origin, weights
        go on from sums that were kept with it."""
        self._half_life_ms = half_life_ms
        self._rescale = rescale
        self.origin_ms = origin_ms
        """Time (ms) of an event that weighs 1; None before the first one."""

    def weight(self, ts: int) -> float:
        """Weight of an event at `ts` (ms): 1 at the first call, doubling with every half-life after its `ts`.

        Where that would be too large, it calls `rescale`, and gives weights relative to this event from now on. So read
        the sum that a weight is added to after this call.
        """
        if self.origin_ms is None:
            self.origin_ms = ts
        exponent = (ts - self.origin_ms) / self._half_life_ms
        if exponent > MAX_EXPONENT:
            self._rescale(2.0**-exponent)
            self.origin_ms, exponent = ts, 0.0
        return float(2.0**exponent)

    def weights(self, ts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Weights of the events at `ts` [n] (ms), or of the first of them: up to one that needs a rescale of its own.

        At least one is given. See `weight`.
        """
        self.weight(int(ts[0]))
        assert self.origin_ms is not None, "the first weight sets it"
        exponents = (ts - self.origin_ms) / self._half_life_ms
        too_large = np.flatnonzero(exponents > MAX_EXPONENT)
        weights: NDArray[np.float64] = np.exp2(exponents[: too_large[0]] if len(too_large) else exponents)
        return weights
