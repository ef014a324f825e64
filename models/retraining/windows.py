"""Split of a log by time: encoder training, list ranker training, and the gate's window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anabranch.durations import duration_text
from anabranch.input_files.times import as_iso
from anabranch.release import DataWindow
from models.data.event_log import DAY_MS, EventLog, NotEnoughData

MIN_GATE_SHARE = 0.9
"""The gate's window may be this share of its configured length. The last event of a week does not come at the same hour
every week, so a run exactly one window after another would often find the new window slightly too short."""


class NotEnoughNewData(NotEnoughData):
    """Too few days of events since the last event that the gate used."""


@dataclass(frozen=True)
class WindowLengths:
    """Lengths of the newest two windows; the events before them train the encoder."""

    order_days: float = 14.0
    gate_days: float = 7.0


def split_windows(
    log: EventLog, lengths: WindowLengths, last_gated_ms: int = 0, trained_until_ms: int = 0
) -> DataWindow:
    """The windows of a log; the newest is the gate's.

    The parent release was trained on the events before `trained_until_ms`. Its child's encoder, which starts from its
    weights, fits them better than it will fit new events, so the list ranker trains on later events only, if there are
    any.

    The gate uses every event once: those before `last_gated_ms` have already decided on a release candidate. Later
    candidates depend on that decision, if only because training was repeated until one passed, so an estimate on the
    same events would be too optimistic (Dwork et al., 2015). Those events train, and never decide again.

    Raises `NotEnoughNewData` if too little is left for the gate, `NotEnoughData` if nothing is left for the encoder.
    """
    if not len(log):
        raise NotEnoughData("there are no events to train on: publish some to `events` first")
    end = int(log.ts[-1]) + 1
    gate_from = max(end - int(lengths.gate_days * DAY_MS), last_gated_ms)
    _require_new_days(end, gate_from, lengths)
    order_from = gate_from - int(lengths.order_days * DAY_MS)
    if len(log.between(trained_until_ms, gate_from)):
        order_from = max(order_from, trained_until_ms)
    if int(log.ts[0]) >= order_from:
        raise _nothing_for_the_encoder(log, order_from, lengths)
    return DataWindow(
        train_from=int(log.ts[0]), order_from=order_from, gate_from=gate_from, gate_to=end, events=len(log)
    )


def require_users(log: EventLog, window: DataWindow, users: int) -> None:
    """Raise `NotEnoughNewData` if fewer than `users` users have an event in the gate's window after an earlier one.

    Only such an event finds a slate to be scored on. Without enough of them the gate could not decide, so nothing is
    trained, and the window stays unused.
    """
    in_window = log.between(window.gate_from, window.gate_to).user
    earlier = np.unique(log.split(window.gate_from)[0].user)
    first = np.unique(in_window, return_index=True)[1]
    later = np.delete(in_window, first)
    ranked = len(np.union1d(np.intersect1d(in_window, earlier), later))
    if ranked < users:
        raise NotEnoughNewData(
            f"{ranked:,} users have events in the gate's window after an earlier event, and the gate needs {users:,}: "
            "run again when there are more, or lengthen --gate-days"
        )


def _require_new_days(end: int, gate_from: int, lengths: WindowLengths) -> None:
    new_ms = max(0, end - gate_from)
    needed_ms = MIN_GATE_SHARE * lengths.gate_days * DAY_MS
    if new_ms < needed_ms:
        raise NotEnoughNewData(
            f"{duration_text(new_ms)} of events are new and the gate needs {duration_text(needed_ms)}, because it uses "
            f"every event once: run again after {duration_text(needed_ms - new_ms)} more of events, or shorten "
            f"--gate-days ({lengths.gate_days:g})"
        )


def _nothing_for_the_encoder(log: EventLog, order_from: int, lengths: WindowLengths) -> NotEnoughData:
    first, last = int(log.ts[0]), int(log.ts[-1])
    if first == last:
        return NotEnoughData(
            f"all {len(log):,} events are at one time, {as_iso(last)}, so they cannot be divided into earlier ones to "
            "learn from and later ones to test: give them times of day"
        )
    return NotEnoughData(
        f"the events span {duration_text(last + 1 - first)}, and the newest {duration_text(last + 1 - order_from)} are "
        f"for list ranker and gate, which leaves none to train the encoder: shorten --order-days "
        f"({lengths.order_days:g}) or --gate-days ({lengths.gate_days:g})"
    )
