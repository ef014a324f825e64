"""The serving policy: how many candidates are ranked, and which items are excluded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from anabranch.co_visit_scoring import CoVisitScoring
from anabranch.release import ReleasePolicy
from anabranch.settings import Settings

Value = TypeVar("Value")


@dataclass(frozen=True)
class Policy:
    """How candidates are chosen. The length of a slate is in the `StateLayout`, since user states keep the last one."""

    retrieval_k: int = 100
    """Items retrieved from the item index."""
    neighbours: int = 20
    """Co-visited items proposed for each of the newest history items: the width of the co-visit table."""
    recent: int = 10
    """How many of the newest history items have their neighbours proposed."""
    co_visit_scoring: CoVisitScoring = field(default_factory=CoVisitScoring)
    """How candidates are scored by co-visits."""
    exclude_seen: bool = False
    """Exclude items that the user has had an event about: for discovery, where repeats are not wanted."""
    allow_session_repeats: bool = False
    """Do not exclude the items of the current session: for marketplaces, where people return to items they viewed."""
    latest: bool = False
    """Rank once per user and batch, after the user's last event in it, instead of after every event."""
    explore_places: int = 0
    """Last places of a slate that are drawn at random: see `anabranch.ranking.pipeline.exploration`."""
    purchase: bool = False
    """Output the purchase probability of each item of a slate, if the release has a purchase head."""

    @classmethod
    def from_settings(cls, settings: Settings, release: ReleasePolicy) -> Policy:
        """The policy by which a release serves: what the settings leave open, the release decides."""
        return cls(
            retrieval_k=settings.retrieval_k,
            neighbours=_either(settings.neighbours, release.neighbours),
            co_visit_scoring=release.co_visit_scoring,
            exclude_seen=_either(settings.exclude_seen, release.exclude_seen),
            allow_session_repeats=_either(settings.allow_session_repeats, release.allow_session_repeats),
            latest=settings.rank == "latest",
            explore_places=settings.explore_places,
            purchase=settings.publish_purchase,
        )

    @property
    def for_release(self) -> ReleasePolicy:
        """The part of it that a release's manifest records."""
        return ReleasePolicy(
            exclude_seen=self.exclude_seen,
            allow_session_repeats=self.allow_session_repeats,
            neighbours=self.neighbours,
            co_visit_scoring=self.co_visit_scoring,
        )

    def excludes(self, *, in_session: bool) -> bool:
        """Whether items that the user has had an event about are excluded: those of the current session, or others."""
        return self.exclude_seen or (in_session and not self.allow_session_repeats)


def _either(setting: Value | None, otherwise: Value) -> Value:
    return otherwise if setting is None else setting
