"""The user states of a ranker, with the numbers that stand for item ids and release ids in them."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary, ReleaseNumbers
from anabranch.settings import Settings


@dataclass(frozen=True)
class StateStore:
    """What one ranker keeps in memory of its users."""

    users: UserStates
    items: ItemVocabulary
    releases: ReleaseNumbers

    @classmethod
    def new(cls, settings: Settings) -> StateStore:
        """Without any user. The vectors get their length with the first release that is live."""
        users = UserStates(StateLayout.from_settings(settings), dims=1, state_dims=1, capacity=settings.max_users)
        return cls(users, ItemVocabulary(), ReleaseNumbers())
