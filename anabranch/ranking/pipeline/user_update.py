"""User states updated by a batch of events: session, history, long-term items and the user vector."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from anabranch.ranking.event_batch import IMPRESSION, EventBatch
from anabranch.ranking.inference.user_encoder import EncoderInputs, encoder_types
from anabranch.ranking.jit import compiled
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.types import Mask, Positions, Slots, Vectors
from anabranch.ranking.user_state.columns import NOT_ENCODED
from anabranch.ranking.user_state.snapshot import UserSnapshots
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.user_state.user_lists import ring_indices

REENCODE_USERS = 1024
"""Users whose histories are encoded in one call: the vectors after their events take 16 MB then."""


class UserUpdate(NamedTuple):
    """What a batch of B events did to user states."""

    duplicate: Mask
    """[B] events that were applied before; they changed nothing"""
    unknown_item: Mask
    """[B] other events about an item without a vector, which did not change the user vector"""
    ranked: Positions
    """[A] indices of the events to rank after, ascending"""
    snapshots: UserSnapshots
    """[A] the users' states right after these events"""


def update_user_states(
    live: ServableRelease, states: UserStates, batch: EventBatch, latest: bool = False
) -> UserUpdate:
    """Apply the batch to the states, in log order per user.

    The events to rank after are all but the duplicates and the impressions; with `latest`, only each user's last one.
    After an impression the user looks at the slate that was shown, so it stays the one that the next event is joined
    with.
    """
    events = batch.columns
    duplicate = states.mark_duplicates(events)
    fresh = np.flatnonzero(~duplicate & (events.types != IMPRESSION))
    ranked = _last_per_user(events.slots, fresh) if latest else fresh

    users, user = np.unique(events.slots, return_inverse=True)  # user [B]: the index of each event's user in users
    reencode_stale_users(live, states, users)
    elapsed_s, snapshots = states.apply_events(events, duplicate, ranked)

    inputs, has_input = _input_vectors(live, batch)
    encoded = fresh[has_input[fresh]]
    recurrent = states.columns.recurrent[users].astype(np.float32)
    vector = states.columns.vector[users].astype(np.float32)
    vectors_after = live.encoder.update(
        recurrent,
        EncoderInputs(user[encoded], inputs[encoded], encoder_types(events.types[encoded]), elapsed_s[encoded]),
    )
    gather_vectors(vector, user, encoded, vectors_after, ranked, snapshots.vector)
    states.columns.recurrent[users], states.columns.vector[users] = recurrent, vector
    unknown_item = (events.items >= 0) & ~has_input & ~duplicate
    return UserUpdate(duplicate, unknown_item, ranked, snapshots)


def current_snapshots(live: ServableRelease, states: UserStates, slots: Slots) -> UserSnapshots:
    """What ranking needs of the users in the slots [n] without an event: their states as their newest events left them.

    Users whom another release encoded are encoded again, as they would be at their next event.
    """
    reencode_stale_users(live, states, np.unique(slots))
    snapshots = states.snapshots(slots)
    snapshots.vector[:] = states.columns.vector[slots]
    return snapshots


def replay(states: UserStates, batch: EventBatch, live: ServableRelease | None = None) -> None:
    """Apply a batch without ranking: how the states of a partition are restored.

    With the release that ranked these events, the states become what they were. Without it, their users are encoded at
    their next events.
    """
    if live is not None:
        update_user_states(live, states, batch)
        return
    duplicate = states.mark_duplicates(batch.columns)
    states.apply_events(batch.columns, duplicate, snapshot_at=np.empty(0, np.int64))
    states.columns.encoded_by[batch.columns.slots] = NOT_ENCODED


def reencode_stale_users(live: ServableRelease, states: UserStates, slots: Slots) -> None:
    """Encode users again from their histories if another release than the live one encoded them.

    `slots` [B] are distinct.
    """
    stale = slots[states.columns.encoded_by[slots] != live.number]
    for start in range(0, len(stale), REENCODE_USERS):
        _encode_histories(live, states, stale[start : start + REENCODE_USERS])


def _encode_histories(live: ServableRelease, states: UserStates, slots: Slots) -> None:
    columns, lists = states.snapshot(slots)
    filled, ring = ring_indices(columns.event_count, states.layout.history)
    item = np.take_along_axis(lists.history_item, ring, 1)
    user, nth = np.nonzero(filled & live.index.known(item))
    index = ring[user, nth]
    has_previous = np.diff(user, prepend=-1) == 0
    seconds = np.diff(lists.history_s[user, index].astype(np.int64), prepend=0)
    elapsed_s = np.where(has_previous, np.maximum(seconds, 0), 0).astype(np.float32)

    recurrent = np.zeros((len(slots), columns.recurrent.shape[1]), np.float32)
    vector = np.zeros((len(slots), live.index.dims), np.float32)
    inputs, types = live.index.vectors(item[user, nth]), lists.history_type[user, index]
    vectors_after = live.encoder.update(recurrent, EncoderInputs(user, inputs, types, elapsed_s))
    vector[user] = vectors_after  # of each user the last one stays
    states.columns.encoded_by[slots] = live.number
    states.columns.recurrent[slots], states.columns.vector[slots] = recurrent, vector


def _input_vectors(live: ServableRelease, batch: EventBatch) -> tuple[Vectors, Mask]:
    """Input vectors [B, d] for the encoder, and which events [B] have one: an event about an item without a vector does
    not change the user's vector."""
    items = batch.columns.items
    has_input = live.index.known(items)
    inputs = np.zeros((len(batch), live.index.dims), np.float32)
    inputs[has_input] = live.index.vectors(items[has_input])
    if batch.queries:
        searches = list(batch.queries)
        inputs[searches] = live.embed_queries(list(batch.queries.values()))
        has_input[searches] = True
    return inputs, has_input


@compiled
def gather_vectors(
    vector: Vectors,  # [U, d] updated in place
    user: Positions,  # [B] index of each event's user among them
    encoded: Positions,  # [m] indices of the events that the encoder read, ascending
    vectors_after: Vectors,  # [m, d] the user's vector after each of them
    ranked: Positions,  # [A] indices of events, ascending
    out: Vectors,  # [A, d] output: the user's vector after each of these
) -> None:
    """Collect user vectors as they were right after events, whether or not these events changed them."""
    m = a = 0
    for b in range(len(user)):
        if m < len(encoded) and encoded[m] == b:
            for d in range(vector.shape[1]):
                vector[user[b], d] = vectors_after[m, d]
            m += 1
        if a < len(ranked) and ranked[a] == b:
            for d in range(vector.shape[1]):
                out[a, d] = vector[user[b], d]
            a += 1


def _last_per_user(slots: Slots, events: Positions) -> Positions:
    """Of the events [F], ascending, the last of each user's."""
    newest_first = events[::-1]
    return np.sort(newest_first[np.unique(slots[newest_first], return_index=True)[1]])
