"""A ranker process under measurement: its metrics and what its log says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from anabranch.harness.environment.processes import ChildProcess
from anabranch.harness.environment.ranker_probe import RankerProbe

LOG_TIME_FORMAT, LOG_TIME_LENGTH = "%Y-%m-%d %H:%M:%S,%f", 23
ASSIGNED_MESSAGE = "assigned partitions: "
RESTORED_MESSAGE = "restored partition "
LIVE_MESSAGE = "is live with "
"""Log messages of `consumers.ranker`."""


@dataclass
class RankerProcess:
    """A ranker process and its metrics."""

    process: ChildProcess
    probe: RankerProbe

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that the ranker holds, by its log."""
        lines = [line for line in self.process.log_lines() if ASSIGNED_MESSAGE in line]
        partitions = lines[-1].rpartition(ASSIGNED_MESSAGE)[2] if lines else ""
        return frozenset(map(int, re.findall(r"\d+", partitions)))

    @property
    def remaining_restore(self) -> float:
        """How many states the ranker still has to restore."""
        return self.probe.total("anabranch_restore_remaining")

    def restore_seconds(self) -> float:
        """Seconds from the adoption of the release to the end of the last partition's restore, by the log."""
        return (self._last_time_of(RESTORED_MESSAGE) - self._last_time_of(LIVE_MESSAGE)).total_seconds()

    def _last_time_of(self, message: str) -> datetime:
        line = [line for line in self.process.log_lines() if message in line][-1]
        return datetime.strptime(line[:LOG_TIME_LENGTH], LOG_TIME_FORMAT)
