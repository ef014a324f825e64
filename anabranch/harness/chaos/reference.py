"""The reference run: an uninterrupted replay of one partition's events in this process, by the code that serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec
from prometheus_client import CollectorRegistry

from anabranch import messages, release
from anabranch.harness.environment.reconciliation import EventPosition
from anabranch.kafka import clients
from anabranch.kafka.topics import Topics
from anabranch.messages import Ranking, SavedState, UserState
from anabranch.metrics import RankerMetrics
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline import rank, user_update
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_row import co_visit_row
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.user_state.codec import load, restore_last_slates, save
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary, ReleaseNumbers
from anabranch.settings import Settings
from consumers.releases.updates import group_by_release, item_vector_update
from consumers.runtime.decoding import DecodedEvent

BATCH_SIZE = 500


@dataclass(frozen=True)
class ReleaseSet:
    """The releases that ranked, by id, with everything that ranking needs besides user states."""

    live: Mapping[str, ServableRelease]
    neighbours: CoVisitRows
    item_ids: ItemVocabulary
    numbers: ReleaseNumbers
    settings: Settings
    serving: str
    """The live one. States are compared as it finds them at their users' next events."""

    @classmethod
    def load(cls, settings: Settings, names: Iterable[str], serving: str) -> ReleaseSet:
        """Load the releases from their folders, with the item vectors and the co-visit table from the topics."""
        item_ids, numbers = ItemVocabulary(), ReleaseNumbers()
        records = clients.read_to_end(settings, [Topics(settings).item_vectors])
        entries = group_by_release(records, RankerMetrics(CollectorRegistry()))
        live = {}
        for name in sorted({*names, serving}):
            files = release.open_release(release.folder_of(settings.releases_dir, name))
            live[name] = ServableRelease.load(files, files.manifest, numbers.number(name))
            change = item_vector_update(name, entries.get(name, {}), item_ids)
            if change is not None:
                change.apply(live[name].index)
                live[name].index.rebuild()
        return cls(live, _load_neighbours(settings, item_ids), item_ids, numbers, settings, serving)

    def policy(self, release: str) -> Policy:
        """The policy by which a release serves."""
        return Policy.from_settings(self.settings, self.live[release].manifest.policy)

    def empty_states(self, layout: StateLayout) -> UserStates:
        """States of no users, with the vector sizes of the live release."""
        manifest = self.live[self.serving].manifest
        return UserStates(layout, manifest.dims, manifest.state_dims)

    def encoded_states(self, states: UserStates, user_ids: Iterable[str]) -> dict[str, UserState]:
        """Each user's state as the live release finds it at the user's next event: what another encoded is re-encoded.

        The release that ranked last will not do. A ranker may go on with it while others rank with the next one; and
        these replay, where they recover, events that it ranked, and leave it to their users' next events to encode
        them.
        """
        user_ids = list(user_ids)
        slots = states.slots(user_ids)
        user_update.reencode_stale_users(self.live[self.serving], states, slots)
        saved = save(states, slots, self.item_ids, self.numbers)
        return {
            user_id: msgspec.structs.replace(state, next_offset=0)
            for user_id, state in zip(user_ids, saved, strict=True)
        }


class ReferenceRun:
    """Replays the events of one partition."""

    def __init__(self, releases: ReleaseSet, layout: StateLayout) -> None:
        self._releases = releases
        self._states = releases.empty_states(layout)
        self._user_ids: dict[str, None] = {}  # in order of their first event
        self.scores: dict[EventPosition, list[list[float]]] = {}
        """Scores of the slate of each placement for each ranked event, best first."""

    def replay(self, received: Sequence[DecodedEvent], release_of: Callable[[DecodedEvent], str | None]) -> None:
        """Apply the events in order of offset, and rank for each by the release that ranked it.

        `release_of` returns None for an event from before the chaos run: it only updates the user's state.
        """
        for name, run in groupby(received, release_of):
            events = list(run)
            for start in range(0, len(events), BATCH_SIZE):
                self._apply(events[start : start + BATCH_SIZE], name)

    def restore_slates(self, ranking: Ranking) -> None:
        """Put a user's last published slates into the state, as a ranker does when it restores it."""
        slot = self._states.slot_of(ranking.user_id)
        if slot is not None:
            restore_last_slates(self._states, slot, ranking, self._releases.item_ids, self._releases.numbers)

    def final_states(self) -> dict[str, UserState]:
        """Every user's state as the live release finds it."""
        manifest = self._releases.live[self._releases.serving].manifest
        self._states.resize_vectors(manifest.dims, manifest.state_dims)
        return self._releases.encoded_states(self._states, self._user_ids)

    def _apply(self, received: Sequence[DecodedEvent], release_name: str | None) -> None:
        releases, events = self._releases, [event.event for event in received]
        user_ids = [event.user_id for event in events]
        self._user_ids |= dict.fromkeys(user_ids)
        slots = self._states.slots(user_ids)
        batch = EventBatch.from_events(events, slots, releases.item_ids, [event.appended_ms for event in received])
        if release_name is None:
            user_update.replay(self._states, batch)
            return
        live = releases.live[release_name]
        self._states.resize_vectors(live.manifest.dims, live.manifest.state_dims)
        result = rank.rank(live, releases.neighbours, self._states, batch, releases.policy(release_name))
        sizes = (result.slates >= 0).sum(axis=2).tolist()
        for event, scores, size in zip(received, result.scores.tolist(), sizes, strict=True):
            self.scores[event.partition, event.offset] = [row[:n] for row, n in zip(scores, size, strict=True)]


def restore_states(saved: Mapping[str, SavedState], releases: ReleaseSet, layout: StateLayout) -> dict[str, UserState]:
    """The saved states of users as the live release finds them."""
    states = releases.empty_states(layout)
    if saved:
        load(states, states.slots(saved), list(saved.values()), releases.item_ids, releases.numbers)
    return releases.encoded_states(states, saved)


def _load_neighbours(settings: Settings, item_ids: ItemVocabulary) -> CoVisitRows:
    table = CoVisitRows(settings.neighbours)
    for record in clients.read_to_end(settings, [Topics(settings).neighbours]):
        message = messages.neighbours.decode(record.value)
        row = co_visit_row(message.item_id, message, item_ids)
        if row is not None:
            row.apply(table)
    return table
