"""When the job runs, and what it tells of each run."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from anabranch.metrics import ReshareMetrics
from anabranch.settings import Settings
from models.retraining.job import JobConfig, Outcome, run_once
from models.retraining.windows import TooLittleData
from models.stages import Bar
from models.training_curves import OpenCurve, no_curves

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """Runs once, or every `every_s` seconds until told to stop."""

    settings: Settings
    config: JobConfig
    metrics: ReshareMetrics
    bar: Bar
    every_s: float | None
    curves: OpenCurve = no_curves

    def run(self, stop: threading.Event) -> None:
        """A run that fails ends the process; one that finds too little data waits for the next, if there is one."""
        while not stop.is_set():
            started = time.monotonic()
            try:
                self._tell(run_once(self.settings, self.config, self.bar, self.curves))
            except TooLittleData as error:
                if self.every_s is None:
                    raise
                self.metrics.outcome("waiting")
                log.info("not yet: %s", error)
            except Exception:
                self.metrics.outcome("failed")
                raise
            if self.every_s is None:
                return
            stop.wait(max(0.0, started + self.every_s - time.monotonic()))

    def _tell(self, outcome: Outcome) -> None:
        self.metrics.events.set(outcome.events)
        self.metrics.seconds.set(outcome.seconds)
        self.metrics.outcome(outcome.notice.status)
        parity = ", ".join(f"{name} {difference:.1e}" for name, difference in outcome.report.parity.items())
        log.info("parity with PyTorch, max abs difference: %s", parity)
        for name, reason in outcome.report.absent.items():
            log.info("release %s has no %s head: %s", outcome.notice.release, name, reason)
        log.info("release %s is %s: %s", outcome.notice.release, outcome.notice.status, outcome.notice.reason)
        log.info("its report: %s", outcome.page)
