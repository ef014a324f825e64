"""The serving policy: how many candidates are ranked, and which of them each placement shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np

from anabranch.co_visit_scoring import CoVisitScoring
from anabranch.placements import FOR_YOU, Placement
from anabranch.ranking.item_classes import IN_SESSION, NEW, SEEN, Classes
from anabranch.ranking.rules_in_force import NO_RULES, RulesInForce
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
    explore_new_items: int = 0
    """How many of the candidates that one explored place is drawn from are new items."""
    placements: tuple[Placement, ...] = (FOR_YOU,)
    """Where slates are shown. Offline figures are about the first one."""
    rules: RulesInForce = field(default=NO_RULES, compare=False)
    """What merchandisers' rules do, for the items of the index. Offline figures are without rules."""
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
            explore_new_items=settings.explore_new_items,
            placements=settings.placements,
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

    def shows(self, placement: Placement) -> Classes:
        """The classes of items that a placement shows."""
        classes = np.ones(3, np.bool_)
        classes[NEW] = placement.repeats != "only"
        classes[SEEN] = placement.repeats == "only" or (placement.repeats == "allow" and not self.exclude_seen)
        classes[IN_SESSION] = classes[SEEN] and self.allow_session_repeats
        return classes

    @property
    def explored_new_items(self) -> int:
        """How many of the candidates that all explored places are drawn from are new items."""
        return self.explore_places * self.explore_new_items

    @property
    def placement_names(self) -> tuple[str, ...]:
        """The names of the placements."""
        return tuple(placement.name for placement in self.placements)

    @cached_property
    def first_classes(self) -> Classes:
        """The classes of items that the first placement shows."""
        return self.shows(self.placements[0])

    @cached_property
    def candidate_classes(self) -> Classes:
        """The classes of items that any placement shows."""
        classes: Classes = np.any([self.shows(placement) for placement in self.placements], axis=0)
        return classes

    @cached_property
    def retrieval_classes(self) -> Classes:
        """The classes of items that `retrieval_k` counts: those that every placement with new items shows."""
        with_new = [self.shows(placement) for placement in self.placements if self.shows(placement)[NEW]]
        classes: Classes = np.all(with_new, axis=0) if with_new else np.zeros(3, np.bool_)
        return classes

    def excludes(self, *, in_session: bool) -> bool:
        """Whether the first placement excludes items that the user has had an event about: those of the current
        session, or others."""
        return not self.first_classes[IN_SESSION if in_session else SEEN]


def _either(setting: Value | None, otherwise: Value) -> Value:
    return otherwise if setting is None else setting
