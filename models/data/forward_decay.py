"""Forward decay: exponentially decayed counts that need no update as time passes.

Cormode, Shkapenyuk, Srivastava and Xu, Forward Decay: A Practical Time Decay Model for Streaming Systems, ICDE 2009.
"""

from __future__ import annotations


class ForwardDecay:
    """Gives newer events more weight instead of reducing the weight of older ones."""

    def __init__(self, half_life_ms: int) -> None:
        self._half_life_ms = half_life_ms
        self._origin: int | None = None

    def weight(self, ts: int) -> float:
        """Weight of an event at `ts` (ms): 1 at the first call, doubling with every half-life after its `ts`.

        Raises OverflowError about a thousand half-lives after the first `ts`.
        """
        if self._origin is None:
            self._origin = ts
        return float(2.0 ** ((ts - self._origin) / self._half_life_ms))
