"""How fast a replay goes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from anabranch.errors import UsageError


@dataclass(frozen=True)
class Pace:
    """As fast as it goes, or a multiple of data time, or so many events a second."""

    times: float | None = None
    """Seconds of the data in a second."""
    per_second: float | None = None
    """Events a second."""

    @classmethod
    def parse(cls, text: str | None) -> Pace:
        """`1000x` is a multiple of data time, `500` or `500/s` a rate, None full speed. Raises `UsageError`."""
        if text is None:
            return FULL_SPEED
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(x|/s)?", text.strip())
        if match is None or float(match[1]) <= 0:
            raise UsageError(
                f"speed {text!r}: give a multiple of data time, as in 1000x, or events a second, as in 500/s"
            )
        number = float(match[1])
        return cls(times=number) if match[2] == "x" else cls(per_second=number)

    def due_s(self, number: int, data_ms: int) -> float:
        """Seconds after the start at which an event is due: the `number`th from 0, `data_ms` after the first."""
        if self.times is not None:
            return data_ms / 1000 / self.times
        return 0.0 if self.per_second is None else number / self.per_second


FULL_SPEED = Pace()
