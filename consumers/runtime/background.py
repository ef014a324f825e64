"""Threads that work beside the ranking, and not in its way."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import faiss

from anabranch.ranking.types import YieldCpu

Made = TypeVar("Made")

NICENESS = 10
"""A core that both want goes to the ranking for ten parts of eleven."""
REST = 2
"""Seconds of rest for each of work: two threads of a core share its units, whichever is the nicer."""


def run_in_background(name: str, work: Callable[[YieldCpu], Made]) -> Future[Made]:
    """Do work in a thread of its own, on one core at most, while the ranking leaves that.

    `work` is given what it is to call between two parts of it. A process may leave the thread behind when it ends.
    """
    made = Future[Made]()

    def do() -> None:
        _stand_back()
        try:
            made.set_result(work(CpuThrottle()))
        except BaseException as error:
            made.set_exception(error)

    threading.Thread(target=do, name=name, daemon=True).start()
    return made


class CpuThrottle:
    """Each call rests for as long as the work of its thread since the one before, or the beginning, asks for."""

    def __init__(self) -> None:
        self._since = time.thread_time()

    def __call__(self) -> None:
        time.sleep(REST * (time.thread_time() - self._since))
        self._since = time.thread_time()


def _stand_back() -> None:
    faiss.omp_set_num_threads(1)  # FAISS goes by the calling thread
    if sys.platform == "linux":  # which ranks threads one by one; elsewhere it would be the whole process
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
