"""Forward decay: counts that fade with time and need no touch to do so."""

from __future__ import annotations


class ForwardDecay:
    """Newer events weigh more, instead of older ones less (Cormode et al., 2009)."""

    def __init__(self, half_life_ms: int) -> None:
        self._half_life_ms = half_life_ms
        self._origin: int | None = None

    def weight(self, ts: int) -> float:
        """Weight of an event, doubling every half-life from the first one asked for.

        Raises OverflowError a thousand half-lives later.
        """
        if self._origin is None:
            self._origin = ts
        return float(2.0 ** ((ts - self._origin) / self._half_life_ms))
