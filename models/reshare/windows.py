"""How a log is cut by time: what teaches the encoder, what teaches the order, and what only the gate sees."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.errors import AnabranchError
from anabranch.release import DataWindow
from models.log import EventLog

DAY_MS = 24 * 3600 * 1000


class TooLittleData(AnabranchError):
    """A log too short to be cut into encoder, order and gate windows."""


@dataclass(frozen=True)
class Windows:
    """Lengths of the newest two windows; everything before them teaches the encoder."""

    order_days: float = 14.0
    gate_days: float = 7.0


def cut(log: EventLog, windows: Windows) -> DataWindow:
    """The windows of a log, the newest for the gate. Raises `TooLittleData` where nothing is left for the encoder."""
    if not len(log):
        raise TooLittleData("there are no events to learn from: publish some to `events` first")
    end = int(log.ts[-1]) + 1
    gate_from = end - int(windows.gate_days * DAY_MS)
    order_from = gate_from - int(windows.order_days * DAY_MS)
    if int(log.ts[0]) >= order_from:
        days = (end - int(log.ts[0])) / DAY_MS
        raise TooLittleData(
            f"the events span {days:.1f} days, which leaves none for the encoder: "
            f"shorten --order-days ({windows.order_days:g}) or --gate-days ({windows.gate_days:g})"
        )
    return DataWindow(
        train_from=int(log.ts[0]), order_from=order_from, gate_from=gate_from, gate_to=end, events=len(log)
    )
