"""Where the ranker gets releases and their updates from: the release watcher, or a test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from consumers.releases.updates import Update


class ReleaseSource(Protocol):
    """Releases and updates, ready to be applied between two batches, in order."""

    def start(self) -> None:
        """Begin to watch."""

    def raise_failure(self) -> None:
        """Raises what ended the watching: the process must not rank on by half."""

    def take_updates(self, limit: int | None = None) -> Iterator[Update]:
        """At most `limit` of the updates that are ready, the oldest first."""

    @property
    def waiting_for(self) -> str:
        """What is missing before a release can be live, for a log line."""

    def close(self) -> None:
        """Stop watching."""
