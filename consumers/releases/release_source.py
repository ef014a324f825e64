"""The source of a ranker's releases and their updates: the release watcher, or a fake in tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from anabranch.messages import ReleaseNotice
from consumers.releases.updates import Update


class AnnouncedRelease(NamedTuple):
    """A release on the topic `releases`."""

    notice: ReleaseNotice
    """The newest one."""
    problem: str | None
    """Why it cannot serve in this process; None: nothing is known against it."""


class ReleaseSource(Protocol):
    """Releases and updates, ready to be applied between two batches, in order."""

    def start(self) -> None:
        """Start watching."""

    def raise_failure(self) -> None:
        """Raise the error that ended the watching, if any: the ranker must not go on with outdated vectors."""

    def take_updates(self, limit: int | None = None) -> Iterator[Update]:
        """Up to `limit` of the updates that are ready (None: all), oldest first."""

    @property
    def has_updates(self) -> bool:
        """Whether there are updates to take."""

    @property
    def waiting_for(self) -> str:
        """What is missing before the first release can serve, for the log."""

    def is_unservable(self, name: str) -> bool:
        """Whether a release was announced that cannot serve here: another version made it, or its files are faulty."""

    def announced(self) -> list[AnnouncedRelease]:
        """All announced releases, in the order of their first notices. Any thread may ask."""

    def close(self) -> None:
        """Stop watching."""
