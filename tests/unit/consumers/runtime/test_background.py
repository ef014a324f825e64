"""Background threads leave the processor to the ranking."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from anabranch.ranking.types import YieldCpu
from consumers.runtime.background import NICENESS, SLEEP_PER_CPU_SECOND, CpuThrottle, run_in_background


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority per thread")
def test_a_background_thread_has_a_lower_priority_than_its_caller() -> None:
    before = priority()
    assert run_in_background("test", lambda yield_cpu: priority()).result(10) == max(NICENESS, before)
    assert priority() == before


def test_an_error_of_background_work_is_raised_by_its_future() -> None:
    def fail(yield_cpu: YieldCpu) -> None:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        run_in_background("test", fail).result(10)


def test_the_throttle_sleeps_in_proportion_to_the_cpu_time_used(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeps: list[float] = []
    cpu_times = iter([5.0, 6.0, 6.0, 6.5, 6.5])
    monkeypatch.setattr(time, "thread_time", lambda: next(cpu_times))
    monkeypatch.setattr(time, "sleep", sleeps.append)
    throttle = CpuThrottle()
    throttle()
    throttle()
    assert sleeps == [SLEEP_PER_CPU_SECOND * 1.0, SLEEP_PER_CPU_SECOND * 0.5]
