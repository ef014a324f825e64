"""When the retraining job runs, and what it logs and counts of each run."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from anabranch.metrics import ReshareMetrics
from anabranch.settings import Settings
from models.retraining.job import JobConfig, RunResult, run_once
from models.retraining.windows import NotEnoughData
from models.stages import Bar
from models.training_curves import OpenCurve, no_curves

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """Runs the job once, or every `every_s` seconds until it is stopped."""

    settings: Settings
    config: JobConfig
    metrics: ReshareMetrics
    bar: Bar
    every_s: float | None
    curves: OpenCurve = no_curves

    def run(self, stop: threading.Event) -> None:
        """Run until `stop` is set. A failed run raises; one without enough data waits for the next, if there is one."""
        while not stop.is_set():
            started = time.monotonic()
            try:
                self._report(run_once(self.settings, self.config, self.bar, self.curves))
            except NotEnoughData as error:
                if self.every_s is None:
                    raise
                self.metrics.outcome("waiting")
                log.info("no release candidate yet: %s", error)
            except Exception:
                self.metrics.outcome("failed")
                raise
            if self.every_s is None:
                return
            stop.wait(max(0.0, started + self.every_s - time.monotonic()))

    def _report(self, result: RunResult) -> None:
        self.metrics.events.set(result.events)
        self.metrics.seconds.set(result.seconds)
        self.metrics.outcome(result.notice.status)
        parity = ", ".join(f"{name} {difference:.1e}" for name, difference in result.candidate.parity.items())
        log.info("parity of ONNX files with PyTorch, largest absolute difference: %s", parity)
        for name, reason in result.candidate.absent.items():
            log.info("release %s has no %s head: %s", result.notice.release, name, reason)
        log.info("release %s is %s: %s", result.notice.release, result.notice.status, result.notice.reason)
        log.info("report of release %s: %s", result.notice.release, result.report_path)
