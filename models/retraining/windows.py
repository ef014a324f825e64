"""How a log is cut by time: what teaches the encoder, what teaches the order, and what only the gate sees."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.errors import AnabranchError
from anabranch.release import DataWindow
from models.data.event_log import EventLog

DAY_MS = 24 * 3600 * 1000
ENOUGH = 0.9
"""A gate's window may be this share of its length: the last event of a week comes at another hour than that of the week
before, so of runs one window apart every other would find the new window a little short."""


class TooLittleData(AnabranchError):
    """A log too short to be cut into encoder, order and gate windows."""


class TooLittleFresh(TooLittleData):
    """Too few days since the events that the gate has used."""


@dataclass(frozen=True)
class Windows:
    """Lengths of the newest two windows; everything before them teaches the encoder."""

    order_days: float = 14.0
    gate_days: float = 7.0


def cut(log: EventLog, windows: Windows, used_to: int = 0, learned_to: int = 0) -> DataWindow:
    """The windows of a log, the newest for the gate.

    A parent has learned the events before `learned_to` (ms). On them its child's encoder looks better than it is, so
    the order, which is to see it as it serves, learns from none of them.

    The gate uses a window once: events before `used_to` (ms) have decided on a candidate already, whatever was decided.
    What is made afterwards has learned from that, if only by being made again until it passed, so on them its
    figures would be too good (Dwork et al., 2015). They teach, and never judge again.

    Raises `TooLittleFresh` where too little is left for the gate, `TooLittleData` where nothing is for the encoder.
    """
    if not len(log):
        raise TooLittleData("there are no events to learn from: publish some to `events` first")
    end = int(log.ts[-1]) + 1
    gate_from = max(end - int(windows.gate_days * DAY_MS), used_to)
    _require_fresh(end, gate_from, windows)
    order_from = gate_from - int(windows.order_days * DAY_MS)
    if len(log.between(learned_to, gate_from)):
        order_from = max(order_from, learned_to)
    if int(log.ts[0]) >= order_from:
        days = (end - int(log.ts[0])) / DAY_MS
        raise TooLittleData(
            f"the events span {days:.1f} days, which leaves none for the encoder: "
            f"shorten --order-days ({windows.order_days:g}) or --gate-days ({windows.gate_days:g})"
        )
    return DataWindow(
        train_from=int(log.ts[0]), order_from=order_from, gate_from=gate_from, gate_to=end, events=len(log)
    )


def _require_fresh(end: int, gate_from: int, windows: Windows) -> None:
    fresh = max(0, end - gate_from) / DAY_MS
    needed = ENOUGH * windows.gate_days
    if fresh < needed:
        raise TooLittleFresh(
            f"{fresh:.1f} days of events are fresh, and the gate needs {needed:.1f}, for it uses none twice: "
            f"run again after {needed - fresh:.1f} more days of events, or shorten --gate-days ({windows.gate_days:g})"
        )
