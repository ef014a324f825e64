"""The co-visit tables that the retraining job publishes, and what it remembers of the published one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from anabranch.co_visit.table import CoVisitTable
from anabranch.durable_files import create_folder, write_durably
from models.co_visit.drift import TableChange

FILE = "co_visits.json"


@dataclass(frozen=True)
class NewCoVisits:
    """A co-visit table of all events."""

    table: CoVisitTable
    change: TableChange
    """What it does to the published one."""


class PublishedCoVisits(Struct, frozen=True, kw_only=True):
    """How much the published table has learned, and whether a newer one was held back."""

    learned_until_ms: int
    """It has learned the events before this time, and none from it on."""
    is_held_back: bool = False
    """The newest gate found that a newer table lowers the figures of the live release."""

    @classmethod
    def read(cls, folder: Path) -> PublishedCoVisits | None:
        """What the folder of the event store has; None before the first table, and if an earlier version wrote it."""
        try:
            return msgspec.json.decode((folder / FILE).read_bytes(), type=cls)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    @classmethod
    def hold_newer_back(cls, folder: Path) -> None:
        """Remember that the published table stays."""
        published = cls.read(folder)
        assert published is not None, "without it nothing is compared"
        msgspec.structs.replace(published, is_held_back=True).write(folder)

    def write(self, folder: Path) -> None:
        """Keep it in the folder of the event store."""
        create_folder(folder)
        write_durably(folder / FILE, msgspec.json.encode(self))
