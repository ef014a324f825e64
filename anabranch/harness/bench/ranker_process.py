"""A ranker process under measurement: its metrics and what its log says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from anabranch.harness.environment.processes import ChildProcess
from anabranch.harness.environment.ranker_probe import RankerProbe
from consumers.ranker.log_messages import ASSIGNED_PARTITIONS, RESTORED_PARTITION
from consumers.releases.serving_model import RELEASE_IS_LIVE

LOG_TIME_FORMAT, LOG_TIME_LENGTH = "%Y-%m-%d %H:%M:%S,%f", 23


@dataclass
class RankerProcess:
    """A ranker process and its metrics."""

    process: ChildProcess
    probe: RankerProbe

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that the ranker holds, by its log."""
        lines = [line for line in self.process.log_lines() if ASSIGNED_PARTITIONS in line]
        partitions = lines[-1].rpartition(ASSIGNED_PARTITIONS)[2] if lines else ""
        return frozenset(map(int, re.findall(r"\d+", partitions)))

    @property
    def remaining_restore(self) -> float:
        """How many states the ranker still has to restore."""
        return self.probe.total("anabranch_restore_remaining")

    def restore_seconds(self) -> float:
        """Seconds from the adoption of the release to the end of the last partition's restore, by the log."""
        return (self._last_time_of(RESTORED_PARTITION) - self._last_time_of(RELEASE_IS_LIVE)).total_seconds()

    def _last_time_of(self, message: str) -> datetime:
        line = [line for line in self.process.log_lines() if message in line][-1]
        return datetime.strptime(line[:LOG_TIME_LENGTH], LOG_TIME_FORMAT)
