"""What became of the runs of the retraining job, in a file: a job that crashes, or is run by cron, keeps no metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from anabranch.durable_files import create_folder, write_durably
from anabranch.errors import UsageError
from anabranch.metrics import ReshareMetrics
from anabranch.settings import Settings
from models.retraining.folder_lock import is_locked, lock_path

log = logging.getLogger(__name__)


class RunRecord(Struct, frozen=True, kw_only=True):
    """The content of the file; times in seconds since 1970."""

    first_start_s: float
    begun_s: float | None = None
    """When the run began that has not ended; None if there is none."""
    last: str | None = None
    """The outcome of the run that ended last, one of `ReshareMetrics.OUTCOMES`."""
    ended_s: Mapping[str, float] = {}
    """When the last run with each outcome ended."""


@dataclass
class RunHistory:
    """The file's content, in the file and in the metrics at every moment."""

    path: Path
    metrics: ReshareMetrics
    record: RunRecord
    clock: Callable[[], float] = field(default=time.time)

    @classmethod
    def open(cls, settings: Settings, metrics: ReshareMetrics, clock: Callable[[], float] = time.time) -> RunHistory:
        """Read the file. A run that began, did not end and does not run failed: it was killed, or the machine stopped.

        Raises `UsageError` if the file is damaged.
        """
        path = history_path(settings)
        history = cls(path, metrics, _read(path) or RunRecord(first_start_s=clock()), clock)
        if is_locked(lock_path(settings)):  # another process's run goes on
            history._show()
        else:
            history._end_killed()
            history._set(history.record)
        return history

    def begin(self) -> None:
        """A run begins, and no other is at work. Other processes may have had runs since this one read the file."""
        self.record = _read(self.path) or self.record
        self._end_killed()
        self._set(replace(self.record, begun_s=self.clock()))

    def end(self, outcome: str) -> None:
        """The run ended with one of `ReshareMetrics.OUTCOMES`."""
        ended_s = {**self.record.ended_s, outcome: self.clock()}
        self._set(replace(self.record, begun_s=None, last=outcome, ended_s=ended_s))
        self.metrics.runs.labels(outcome).inc()

    def abandon(self) -> None:
        """The run was given up because the process is to stop: it has no outcome."""
        self._set(replace(self.record, begun_s=None))

    def _end_killed(self) -> None:
        if self.record.begun_s is not None:
            log.warning("the last run did not end: it was killed, or the machine stopped; it counts as failed")
            self.end("failed")

    def _set(self, record: RunRecord) -> None:
        self.record = record
        self._show()
        try:
            create_folder(self.path.parent)
            write_durably(self.path, msgspec.json.encode(record))
        except OSError as error:
            log.warning("%s cannot be written: %s; the next start does not know of this run", self.path, error.strerror)

    def _show(self) -> None:
        record = self.record
        self.metrics.show(record.last, record.ended_s, record.first_start_s)
        self.metrics.loop.turned("the last run failed" if record.last == "failed" else None)


def history_path(settings: Settings) -> Path:
    """The file of an installation."""
    return settings.data_dir / "reshare" / f"{settings.topic_prefix}runs.json"


def _read(path: Path) -> RunRecord | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunRecord)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path} is damaged ({error}): remove it; it holds only when runs ended, and how") from error
