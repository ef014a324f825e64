"""What must have come of a stream: an uninterrupted fold of its events in one process, by the code that serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

import msgspec

from anabranch.harness.environment.reconciliation import Place
from anabranch.messages import Ranking, SavedState, UserState
from anabranch.ranking.pipeline import rank
from anabranch.ranking.pipeline.rank import Batch
from anabranch.ranking.pipeline.servable import LiveRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import NeighbourTable
from anabranch.ranking.user_state.codec import load, save
from anabranch.ranking.user_state.store import StateLayout, UserStates
from anabranch.ranking.vocabulary import ItemIds, ReleaseNumbers
from consumers.runtime.decoding import Received

BATCH = 500


class Releases:
    """The releases that ranked, by id, with the numbers this process gives them."""

    def __init__(
        self,
        live: Mapping[str, LiveRelease],
        neighbours: NeighbourTable,
        item_ids: ItemIds,
        numbers: ReleaseNumbers,
        policy: Policy,
    ) -> None:
        self.live = live
        self.neighbours = neighbours
        self.policy = policy
        self.item_ids = item_ids
        self.numbers = numbers

    def states(self, layout: StateLayout, release: str) -> UserStates:
        """No states yet, with room for the release's vectors."""
        manifest = self.live[release].manifest
        return UserStates(layout, manifest.dims, manifest.state_dims)


class Reference:
    """The states of one partition's users after all of its events."""

    def __init__(self, releases: Releases, layout: StateLayout, final: str) -> None:
        self._releases = releases
        self._final = final
        self.states = releases.states(layout, final)
        self._users: dict[str, None] = {}
        self.scores: dict[Place, list[float]] = {}
        """Of the slate that each event should have led to, best first."""

    def fold(self, received: Sequence[Received], ranked_by: Callable[[Received], str | None]) -> None:
        """Enter the events in order, and rank after each as it was ranked.

        `ranked_by` is the release that ranked an event, None for one that stood in the log before anything was ranked.
        """
        for release, run in groupby(received, ranked_by):
            events = list(run)
            for start in range(0, len(events), BATCH):
                self._enter(events[start : start + BATCH], release)

    def _enter(self, received: Sequence[Received], release: str | None) -> None:
        events = [one.event for one in received]
        user_ids = [event.user_id for event in events]
        self._users |= dict.fromkeys(user_ids)
        slots = self.states.slots(user_ids)
        batch = Batch.of(events, slots, self._releases.item_ids, [one.appended_ms for one in received])
        if release is None:
            rank.fold(self.states, batch)
            return
        live = self._releases.live[release]
        self.states.expect(live.manifest.dims, live.manifest.state_dims)
        ranked = rank.rank(live, self._releases.neighbours, self.states, batch, self._releases.policy)
        shown = (ranked.slate >= 0).sum(axis=1).tolist()
        for one, scores, size in zip(received, ranked.score.tolist(), shown, strict=True):
            self.scores[one.partition, one.offset] = scores[:size]

    def show(self, ranking: Ranking) -> None:
        """The user's last ranking, as it was published: the state holds its slate."""
        slot = self.states.slot_of(ranking.user_id)
        if slot is not None:
            rows = self._releases.item_ids.rows(item.item_id for item in ranking.slate)
            self.states.show(slot, rows, self._releases.numbers.number(ranking.release))

    def final(self) -> dict[str, UserState]:
        """Every user's state, as the release that ranks last would find it."""
        live = self._releases.live[self._final]
        self.states.expect(live.manifest.dims, live.manifest.state_dims)
        return as_the_release_finds_them(live, self.states, self._users, self._releases)


def saved(
    states: Mapping[str, SavedState], releases: Releases, layout: StateLayout, final: str
) -> dict[str, UserState]:
    """The saved states of users, as the release that ranks last would find them."""
    found = releases.states(layout, final)
    if states:
        load(found, found.slots(states), list(states.values()), releases.item_ids, releases.numbers)
    return as_the_release_finds_them(releases.live[final], found, states, releases)


def as_the_release_finds_them(
    live: LiveRelease, states: UserStates, user_ids: Iterable[str], releases: Releases
) -> dict[str, UserState]:
    """Every user's state at the user's next event: what another release encoded is encoded anew."""
    names = list(user_ids)
    slots = states.slots(names)
    rank.encode_anew(live, states, slots)
    found = save(states, slots, releases.item_ids, releases.numbers)
    return {name: msgspec.structs.replace(state, next_offset=0) for name, state in zip(names, found, strict=True)}
