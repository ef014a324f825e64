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

    @property
    def is_item_update_due(self) -> bool:
        """Whether `update_items` has anything to do."""
        return self.items.is_unsettled or self.items.is_sweep_due

    def update_items(self) -> None:
        """Give the items that are in a catalogue by now their rows in all user states, and forget those in none.

        No batch may be in hand that would be undone: its snapshot has the old numbers.
        """
        if self.items.is_unsettled:
            self.users.renumber_items(*self.items.settle())
        if self.items.is_sweep_due:
            self.items.sweep(self.users.unnamed_in_use(self.items.unnamed_end))
