"""When the retraining job runs, and what it logs and counts of each run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from anabranch.durations import duration_text
from anabranch.metrics import ReshareMetrics
from anabranch.settings import Settings
from models.co_visit.drift import TableChange
from models.data.event_log import NotEnoughData
from models.retraining.folder_lock import FolderInUse
from models.retraining.job import RunCallbacks, RunResult, run_once
from models.retraining.resources import OutOfResources, resources_checked
from models.retraining.run import GatedRelease, JobConfig, ReleasesChanged
from models.retraining.run_history import RunHistory
from models.stages import Advance, Bar, Stopped, stoppable
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
        """Run until `stop` is set, which ends a run at its next report of progress.

        A failed run raises, unless its cause may be gone by the next run, if there is one: too little data, a full
        disk, missing memory, another run in the same folder, or one that announced a release meanwhile.
        """
        history = RunHistory.open(self.settings, self.metrics)
        while not stop.is_set():
            started = time.monotonic()
            try:
                self._run_once(history, stop)
            except Stopped:
                log.info("the run was stopped: nothing more is announced, and its unfinished release is removed")
                return
            if self.every_s is None:
                return
            self._wait_until(started + self.every_s, stop)

    def _run_once(self, history: RunHistory, stop: threading.Event) -> None:
        try:
            self._report(self._run(history, stop), history)
        except NotEnoughData as error:
            history.end("waiting")
            self._raise_if_last(error)
            log.info("no release candidate yet: %s", error)
        except FolderInUse as error:  # what becomes of the other run is its own history
            self._raise_if_last(error)
            log.error("no run, and the next attempt is in %s: %s", self._interval, error)
        except (OutOfResources, ReleasesChanged) as error:
            history.end("failed")
            self._raise_if_last(error)
            log.error("the run failed, and the next one tries again in %s: %s", self._interval, error)
        except (Stopped, KeyboardInterrupt, SystemExit):
            history.abandon()
            raise
        except Exception:
            history.end("failed")
            raise

    def _run(self, history: RunHistory, stop: threading.Event) -> RunResult:
        callbacks = RunCallbacks(history.begin, self.metrics.missed.inc, self._show_table_change)
        with resources_checked((self.settings.data_dir, self.settings.releases_dir)):
            bar = stoppable(self._beating_bar, stop.is_set)
            return run_once(self.settings, self.config, bar, self.curves, callbacks)

    def _show_table_change(self, change: TableChange) -> None:
        self.metrics.unusual_users.set(change.unusual_users)
        if change.kept is not None:
            self.metrics.neighbours_kept.set(change.kept)
        if change.harm is not None:
            self.metrics.tables_held_back.inc()

    def _raise_if_last(self, error: Exception) -> None:
        if self.every_s is None:
            raise error

    @property
    def _interval(self) -> str:
        return duration_text(1000 * (self.every_s or 0))

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
