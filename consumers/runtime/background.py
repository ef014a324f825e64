"""Background threads that leave the processor to the ranking."""

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
from anabranch.service import NICENESS

Result = TypeVar("Result")

SLEEP_PER_CPU_SECOND = 2
"""Seconds of sleep per second of CPU time. Niceness alone is not enough: two hyper-threads share a core's units."""


def run_in_background(name: str, work: Callable[[YieldCpu], Result]) -> Future[Result]:
    """Run `work` in a daemon thread of low priority, on one core at most; the future holds its result or its error.

    `work` gets a `CpuThrottle`, which it must call between two steps. The thread does not keep the process alive.
    """
    future = Future[Result]()

    def run() -> None:
        _lower_thread_priority()
        try:
            future.set_result(work(CpuThrottle()))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


class CpuThrottle:
    """Each call sleeps `SLEEP_PER_CPU_SECOND` times as long as its thread has used the CPU since the previous call."""

    def __init__(self) -> None:
        self._last_cpu_s = time.thread_time()

    def __call__(self) -> None:
        time.sleep(SLEEP_PER_CPU_SECOND * (time.thread_time() - self._last_cpu_s))
        self._last_cpu_s = time.thread_time()


def _lower_thread_priority() -> None:
    faiss.omp_set_num_threads(1)  # FAISS keeps this number per calling thread
    if sys.platform == "linux":  # elsewhere, `setpriority` applies to the whole process
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
