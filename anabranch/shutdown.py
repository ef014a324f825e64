"""Shutdown on SIGTERM and SIGINT: the first signal starts a graceful shutdown, the second one ends the process."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

log = logging.getLogger(__name__)

NUMBERS = frozenset((signal.SIGTERM, signal.SIGINT))


def stop_on_signals(within_s: float | None = None) -> threading.Event:
    """An event that the first SIGTERM or SIGINT sets. Call it from the main thread.

    A graceful shutdown needs a broker that responds, and work that looks at the event. A process that loses nothing if
    it is killed can limit the wait: it exits with code 1 after `within_s` seconds.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        log.info("%s: stopping", signal.Signals(number).name)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    if within_s is not None:
        threading.Thread(
            target=_exit_after_signal, args=(_signal_pipe(), within_s), name="shutdown-limit", daemon=True
        ).start()
    return stop


def exit_at_once() -> NoReturn:
    """End the process with code 0, without the interpreter's own teardown. Call it once everything is closed.

    With PyTorch loaded the teardown needs a second of CPU time, which is more than ten seconds at a low priority on a
    busy machine, and no limit holds in it.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _signal_pipe() -> int:
    """The end of a pipe from which the number of each signal can be read, one byte each.

    The handler of a signal runs in the main thread, after the native code that it is in has returned, which may be
    minutes later. The byte is written at once.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    return read_end


def _exit_after_signal(read_end: int, timeout_s: float) -> None:
    while not NUMBERS & set(os.read(read_end, 1)):
        pass
    time.sleep(timeout_s)
    log.error(
        "the shutdown did not finish within %g s and is cut short: the next process repeats what was not committed",
        timeout_s,
    )
    os._exit(1)
