"""When the retraining job runs, and what it logs and counts of each run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from anabranch.metrics import ReshareMetrics
from anabranch.settings import Settings
from models.data.event_log import NotEnoughData
from models.retraining.job import RunResult, run_once
from models.retraining.run import GatedRelease, JobConfig
from models.retraining.run_history import RunHistory
from models.stages import Advance, Bar
from models.training_curves import OpenCurve, no_curves

log = logging.getLogger(__name__)

BEAT_INTERVAL_S = 10.0


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
        history = RunHistory.open(self.settings, self.metrics)
        while not stop.is_set():
            started = time.monotonic()
            self._run_once(history)
            if self.every_s is None:
                return
            self._wait_until(started + self.every_s, stop)

    def _run_once(self, history: RunHistory) -> None:
        history.begin()
        try:
            result = run_once(self.settings, self.config, self._beating_bar, self.curves)
        except NotEnoughData as error:
            history.end("waiting")
            if self.every_s is None:
                raise
            log.info("no release candidate yet: %s", error)
        except Exception:
            history.end("failed")
            raise
        except BaseException:
            history.abandon()
            raise
        else:
            self._report(result, history)

    def _report(self, result: RunResult, history: RunHistory) -> None:
        self.metrics.events.set(result.events)
        self.metrics.seconds.set(result.seconds)
        if result.gated is None:
            history.end("waiting")
            log.info("no release candidate yet: %s", result.waiting_for)
        else:
            history.end(result.gated.notice.status)
            _log_release(result.gated)

    def _wait_until(self, deadline: float, stop: threading.Event) -> None:
        """Wait for the next run; a loop that waits is not stuck."""
        while not stop.is_set() and (left_s := deadline - time.monotonic()) > 0:
            self.metrics.loop.beat()
            stop.wait(min(left_s, BEAT_INTERVAL_S))

    @contextmanager
    def _beating_bar(self, title: str, total: int | None) -> Iterator[Advance]:
        """A progress bar whose every step shows that the run makes progress."""
        with self.bar(title, total) as advance:
            self.metrics.loop.beat()

            def beat_and_advance(steps: int) -> None:
                self.metrics.loop.beat()
                advance(steps)

            yield beat_and_advance


def _log_release(gated: GatedRelease) -> None:
    name, notice = gated.notice.release, gated.notice
    parity = ", ".join(f"{file} {difference:.1e}" for file, difference in gated.candidate.parity.items())
    log.info("parity of ONNX files with PyTorch, largest absolute difference: %s", parity)
    for head, reason in gated.candidate.absent.items():
        log.info("release %s has no %s head: %s", name, head, reason)
    log.info("release %s is %s: %s", name, notice.status, notice.reason)
    log.info("report of release %s: %s", name, gated.report_path)
