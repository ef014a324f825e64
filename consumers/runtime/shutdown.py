"""Shutdown on SIGTERM and SIGINT: the first signal starts a graceful shutdown, the second one ends the process."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType

log = logging.getLogger(__name__)


def stop_on_signals(within_s: float | None = None) -> threading.Event:
    """An event that the first SIGTERM or SIGINT sets. Call it from the main thread.

    A graceful shutdown needs a broker that responds. A process that loses nothing if it is killed can limit the wait:
    it exits with code 1 after `within_s` seconds.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        log.info("%s: finishing the current batch", signal.Signals(number).name)
        stop.set()
        if within_s is not None:
            timer = threading.Timer(within_s, _exit_now, (within_s,))
            timer.daemon = True
            timer.start()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    return stop


def _exit_now(timeout_s: float) -> None:
    log.error(
        "the shutdown did not finish within %g s: uncommitted work is rolled back, and another process repeats it",
        timeout_s,
    )
    os._exit(1)
