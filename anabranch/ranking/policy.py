"""The serving policy: what may be proposed and shown."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.settings import Settings


@dataclass(frozen=True)
class Policy:
    """What may be proposed and shown."""

    slate: int = 20
    retrieval_k: int = 100
    """Items asked of the index."""
    neighbours: int = 20
    """Neighbours proposed of each of the newest history items."""
    recent: int = 10
    """How many history items that is."""
    exclude_seen: bool = False
    """Filter what is among the user's own items: for discovery, where a repeat is no news."""
    allow_session_repeats: bool = False
    """Show what the session holds again: where people go back and forth between items, as on a marketplace."""
    latest: bool = False
    """Make one slate for each user of a batch, after their last event in it, and none after the others."""
    purchase: bool = False
    """Tell how probable the purchase of each shown item is, where the release has that head."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Policy:
        """As the settings say."""
        return cls(
            slate=settings.slate_size,
            retrieval_k=settings.retrieval_k,
            neighbours=settings.neighbours,
            exclude_seen=settings.exclude_seen,
            allow_session_repeats=settings.allow_session_repeats,
            latest=settings.rank == "latest",
            purchase=settings.publish_purchase,
        )
