"""The folder in which the retraining job keeps what it has read: of one log, and held by one run at a time."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from anabranch.durable_files import write_durably
from anabranch.errors import AnabranchError
from anabranch.kafka.log_identity import LogIdentity
from anabranch.release import MANIFEST
from anabranch.settings import Settings
from models.data.event_store import EventStore
from models.retraining.folder_lock import Lock, lock_path, locked
from models.retraining.release_folder import RELEASE_ID, new_release_folder

log = logging.getLogger(__name__)

LOG_FILE = "log.json"
"""Names the log that the event store beside it comes from."""


class AnotherLog(AnabranchError):
    """The event store and the topics do not belong together: its offsets mean nothing there."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"{reason}. Nothing was read. Either correct bootstrap_servers, topic_prefix or data_dir; or move {folder} "
            "away, and the next run reads the topics from their beginnings"
        )


@dataclass(frozen=True)
class Workspace:
    """What one run works with, and no other run meanwhile."""

    releases_dir: Path
    store: EventStore
    _releases_lock: Lock

    @contextmanager
    def new_release_folder(self, announced: Iterable[str]) -> Iterator[Path]:
        """An empty folder for the next release; see `new_release_folder`. The run after a kill removes what is left."""
        with new_release_folder(self.releases_dir, announced) as folder:
            self._releases_lock.note(folder.name)
            yield folder


@contextmanager
def open_workspace(settings: Settings) -> Iterator[Workspace]:
    """The workspace, for one run: no other run can use its event store, or make releases of the same topics.

    Raises `FolderInUse`, and `AnotherLog` if the event store has the events of other topics.
    """
    folder = settings.data_dir / "reshare"
    identity = LogIdentity.read(settings, ("events", "feedback"))
    with (
        locked(lock_path(settings), f"re-shares in {folder}"),
        locked(
            _releases_lock(settings, identity), f"makes releases of the same topics in {settings.releases_dir}"
        ) as lock,
    ):
        _clear_after_kill(settings.releases_dir, lock)
        store = EventStore.open(folder / "journal")
        _require_same_log(folder, identity, is_new=not store.next_offsets)
        yield Workspace(settings.releases_dir, store, lock)


def _clear_after_kill(releases_dir: Path, lock: Lock) -> None:
    """Say that the last run was killed, and remove the folders that it had begun; one with a manifest is a release."""
    if lock.killed_holder is None:
        return
    begun = [
        folder
        for folder in (releases_dir / name for name in lock.notes if RELEASE_ID.fullmatch(name))
        if folder.is_dir()
    ]
    unfinished = [folder for folder in begun if not (folder / MANIFEST).exists()]
    for folder in unfinished:
        shutil.rmtree(folder, ignore_errors=True)
    log.warning(
        "the last run, of %s, was killed%s. If the kernel killed it for want of memory, give it more",
        lock.killed_holder,
        "".join(f"; {folder}, which it had begun, is removed" for folder in unfinished),
    )


def _releases_lock(settings: Settings, identity: LogIdentity) -> Path:
    """Several installations may share the folder of releases, where each makes folders of its own."""
    installation = hashlib.sha256(f"{identity.cluster_id}/{identity.topic_prefix}".encode()).hexdigest()[:16]
    return settings.releases_dir / f".reshare-{installation}.lock"


def _require_same_log(folder: Path, identity: LogIdentity, is_new: bool) -> None:
    """Raise `AnotherLog` unless the event store is this log's. One of an earlier version becomes so."""
    path = folder / LOG_FILE
    stored = _read(path)
    if stored is None:
        if not is_new:
            log.warning("%s, of an earlier version, belongs to %s from now on", folder, _name(identity))
        write_durably(path, msgspec.json.encode(identity))
        return
    differences = list(stored.differences(identity))
    if differences:
        raise AnotherLog(folder, f"{folder} holds events of {'; '.join(differences)}")
    if identity.topic_ids.keys() - stored.topic_ids.keys():  # the brokers give topics ids since their last upgrade
        write_durably(path, msgspec.json.encode(identity))


def _read(path: Path) -> LogIdentity | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=LogIdentity)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise AnotherLog(path.parent, f"{path} cannot be read ({error}), so its log is not known") from error


def _name(identity: LogIdentity) -> str:
    return f"cluster {identity.cluster_id}, topic_prefix {identity.topic_prefix!r}"
