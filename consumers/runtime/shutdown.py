"""Ending on SIGTERM and SIGINT: the first asks for an orderly end, the second does not wait for it."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType

log = logging.getLogger(__name__)


def stop_on_signals(within_s: float | None = None) -> threading.Event:
    """An event that the first SIGTERM or SIGINT sets. Call it from the main thread.

    A process that may die at any moment and lose nothing does so after `within_s`, with exit code 1: an orderly end
    needs a broker that answers.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        log.info("%s: finishing the batch in hand", signal.Signals(number).name)
        stop.set()
        if within_s is not None:
            timer = threading.Timer(within_s, _give_up, (within_s,))
            timer.daemon = True
            timer.start()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    return stop


def _give_up(after_s: float) -> None:
    log.error("no orderly end within %g s: what is not committed is rolled back, and taken again elsewhere", after_s)
    os._exit(1)
