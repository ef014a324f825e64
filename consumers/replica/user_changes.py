"""Which users' slates may have changed: for those who wait for new ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

NOBODY: frozenset[str] = frozenset()


class UserChanges:
    """The replica says what changed, and costs no time while nobody is watched.

    One thread watches users, another one says and takes changes. Each operation on a container that both use is atomic.
    """

    def __init__(self) -> None:
        self._watched: Counter[str] = Counter()
        self._changed: set[str] = set()

    @property
    def is_watching(self) -> bool:
        """Whether anybody is watched."""
        return bool(self._watched)

    def watch(self, user_id: str) -> None:
        """Tell of this user's changes from now on, until `unwatch` was called as often as this."""
        self._watched[user_id] += 1

    def unwatch(self, user_id: str) -> None:
        """One watches the user less."""
        self._watched[user_id] -= 1
        if self._watched[user_id] <= 0:
            del self._watched[user_id]

    def add(self, user_ids: Iterable[str]) -> None:
        """Events of these users were applied."""
        self._changed.update(user_id for user_id in user_ids if user_id in self._watched)

    def add_everybody(self) -> None:
        """What everybody's slates are made of has changed: the release, the rules, all user states."""
        self._changed.update(list(self._watched))

    def take(self) -> frozenset[str]:
        """The watched users with a change since the last call."""
        if not self._changed:
            return NOBODY
        changed, self._changed = frozenset(self._changed), set()
        return changed
