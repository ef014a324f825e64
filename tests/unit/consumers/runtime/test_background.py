"""What works beside the ranking gets what it leaves."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from anabranch.ranking.types import YieldCpu
from consumers.runtime.background import NICENESS, REST, CpuThrottle, run_in_background


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ranks threads one by one")
def test_a_thread_that_works_beside_keeps_no_other_from_its_turn() -> None:
    before = priority()
    assert run_in_background("test", lambda between: priority()).result(10) == max(NICENESS, before)
    assert priority() == before


def test_what_ends_the_work_is_raised_where_its_outcome_is_asked_for() -> None:
    def fail(between: YieldCpu) -> None:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        run_in_background("test", fail).result(10)


def test_a_rest_is_as_long_as_the_work_before_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    rested: list[float] = []
    worked = iter([5.0, 6.0, 6.0, 6.5, 6.5])
    monkeypatch.setattr(time, "thread_time", lambda: next(worked))
    monkeypatch.setattr(time, "sleep", rested.append)
    rest = CpuThrottle()
    rest()
    rest()
    assert rested == [REST * 1.0, REST * 0.5]
