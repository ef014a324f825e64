"""When the retraining job runs, and what it logs and counts of each run."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from anabranch.durations import duration_text
from anabranch.metrics import ReshareMetrics
from anabranch.settings import Settings
from models.data.event_log import NotEnoughData
from models.retraining.folder_lock import FolderInUse
from models.retraining.job import RunResult, run_once
from models.retraining.resources import OutOfResources, resources_checked
from models.retraining.run import GatedRelease, JobConfig, ReleasesChanged
from models.stages import Bar, Stopped, stoppable
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
        """Run until `stop` is set, which ends a run at its next report of progress.

        A failed run raises, unless its cause may be gone by the next run, if there is one: too little data, a full
        disk, missing memory, another run in the same folder, or one that announced a release meanwhile.
        """
        while not stop.is_set():
            started = time.monotonic()
            try:
                self._run_once(stop)
            except Stopped:
                log.info("the run was stopped: nothing more is announced, and its unfinished release is removed")
                return
            if self.every_s is None:
                return
            stop.wait(max(0.0, started + self.every_s - time.monotonic()))

    def _run_once(self, stop: threading.Event) -> None:
        try:
            with resources_checked((self.settings.data_dir, self.settings.releases_dir)):
                bar = stoppable(self.bar, stop.is_set)
                self._report(run_once(self.settings, self.config, bar, self.curves, self.metrics.missed.inc))
        except Stopped:
            raise
        except NotEnoughData as error:
            if self.every_s is None:
                raise
            self.metrics.outcome("waiting")
            log.info("no release candidate yet: %s", error)
        except (OutOfResources, FolderInUse, ReleasesChanged) as error:
            self.metrics.outcome("failed")
            if self.every_s is None:
                raise
            log.error(
                "the run failed, and the next one tries again in %s: %s", duration_text(1000 * self.every_s), error
            )
        except Exception:
            self.metrics.outcome("failed")
            raise

    def _report(self, result: RunResult) -> None:
        self.metrics.events.set(result.events)
        self.metrics.seconds.set(result.seconds)
        if result.gated is None:
            self.metrics.outcome("waiting")
            log.info("no release candidate yet: %s", result.waiting_for)
        else:
            self.metrics.outcome(result.gated.notice.status)
            _log_release(result.gated)


def _log_release(gated: GatedRelease) -> None:
    name, notice = gated.notice.release, gated.notice
    parity = ", ".join(f"{file} {difference:.1e}" for file, difference in gated.candidate.parity.items())
    log.info("parity of ONNX files with PyTorch, largest absolute difference: %s", parity)
    for head, reason in gated.candidate.absent.items():
        log.info("release %s has no %s head: %s", name, head, reason)
    log.info("release %s is %s: %s", name, notice.status, notice.reason)
    log.info("report of release %s: %s", name, gated.report_path)
