"""Wall time and CPU time of the stages of a run, over this process and all that it started."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
from msgspec import Struct


class StageCost(Struct, frozen=True):
    """What a stage took. On a machine with other work, the CPU time says what it would take alone."""

    stage: str
    seconds: float
    cpu_seconds: float


class StageClock:
    """Measures stages that follow each other."""

    def __init__(self) -> None:
        self.stages: list[StageCost] = []
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall time since the clock was made."""
        return time.monotonic() - self._started

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measure the block."""
        started, cpu_started = time.monotonic(), cpu_seconds()
        yield
        self.stages.append(StageCost(stage, time.monotonic() - started, cpu_seconds() - cpu_started))


def cpu_seconds() -> float:
    """CPU time of this process, of its children that run, with theirs, and of those that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = sum(os.times()[:2]) + ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            times = child.cpu_times()
            total += times.user + times.system
    return total
