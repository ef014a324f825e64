"""The ranker's core: events and user states in, slates, feedback and updated user states out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import EVENT_TYPES, Event
from anabranch.ranking.inference.user_encoder import EncoderInputs
from anabranch.ranking.jit import compiled
from anabranch.ranking.pipeline.features import build_features
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.candidates import Candidates, propose
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.top_k import insert_best_first
from anabranch.ranking.types import Counts, Floats, Positions, Rows, Slots, Vectors
from anabranch.ranking.user_state.snapshot import UserSnapshots
from anabranch.ranking.user_state.store import NOT_ENCODED, StateLayout, UserStates, ring_places
from anabranch.ranking.vocabulary import ItemVocabulary, stable_hash

Number = TypeVar("Number", np.int32, np.float32)

NO_SLATE = -1
"""The rank of an event whose user had been shown nothing."""
NOT_ON_SLATE = 0
QUERIES_AT_ONCE, FEWEST_AT_ONCE = 64, 16
"""What so many queries take to rank fits into a core's cache; a whole batch's would be fetched from memory thrice. Of a
small batch fewer are ranked at once, so that all threads have some; but the calls cost something too."""
USERS_AT_ONCE = 1024
"""Whose histories are encoded at once: the vectors after each event take 16 MB then."""
PARTS = 8
"""A batch is ranked in so many parts or more: those that are last then leave few threads idle."""


@dataclass(frozen=True)
class EventBatch:
    """B events in log order, as columns."""

    slots: Slots
    items: Rows  # -1 where the event has no item
    types: NDArray[np.uint8]
    ts: NDArray[np.int64]  # ms
    sessions: NDArray[np.uint64]  # 0 where the event names none
    keys: NDArray[np.uint64]  # hash of the event id
    queries: dict[int, str]  # text of the searches, by position

    def __len__(self) -> int:
        return len(self.ts)

    @classmethod
    def from_events(
        cls, events: Sequence[Event], slots: Slots, item_ids: ItemVocabulary, appended_ms: Sequence[int] | None = None
    ) -> EventBatch:
        """Columns of decoded events whose users have `slots` [B].

        `appended_ms` [B] is when each was appended to the log, below 0 where that is unknown: an event cannot have
        happened later, whatever its producer's clock said.
        """
        ts = [e.ts for e in events]
        if appended_ms is not None:
            ts = [out if at < 0 else min(out, at) for out, at in zip(ts, appended_ms, strict=True)]
        return cls(
            slots=slots,
            items=np.array([-1 if e.item_id is None else item_ids.row(e.item_id) for e in events], np.int32),
            types=np.array([EVENT_TYPES.index(e.type) for e in events], np.uint8),
            ts=np.array(ts, np.int64),
            sessions=np.array([0 if e.session_id is None else stable_hash(e.session_id) for e in events], np.uint64),
            keys=np.array([stable_hash(e.event_id) for e in events], np.uint64),
            queries={at: e.query for at, e in enumerate(events) if e.type == "search" and e.query is not None},
        )


@dataclass(frozen=True)
class RankingResult:
    """What came of a batch, by event."""

    duplicate: NDArray[np.bool_]  # [B] an event seen before: nothing else holds for it
    ranked: NDArray[np.bool_]  # [B] a slate was made right after it; all but duplicates, unless the latest alone are
    slate: Rows  # [B, slate] -1 padded
    score: Floats  # [B, slate]
    shown_release: NDArray[np.int32]  # [B] number of the release whose slate the user had, -1: none
    shown_size: NDArray[np.int32]  # [B]
    rank: NDArray[np.int32]  # [B] place of the event's item on that slate from 1, NOT_ON_SLATE or NO_SLATE
    purchase: Floats | None = None  # [B, slate] probability that the user buys it; None: not asked for, or no such head


Lap = Callable[[str], None]
"""Told the name of a stage at its end."""


def _no_clock() -> Lap:
    return lambda stage: None


def rank(
    live: ServableRelease,
    neighbours: CoVisitRows,
    states: UserStates,
    batch: EventBatch,
    policy: Policy,
    start_timer: Callable[[], Lap] = _no_clock,
    map_fn: Callable[[Callable[[UserSnapshots], _Slates], Iterable[UserSnapshots]], Iterable[_Slates]] = map,
) -> RankingResult:
    """Update the user states by every event of the batch, in log order per user, and rank after each event.

    `states` changes in place. Once it is updated, the queries are independent: at most `QUERIES_AT_ONCE` are ranked at
    a time, one part after the other or, where `map_fn` is the `map` of a thread pool, in parallel. The core reads no
    clock: every part calls `start_timer`, and the returned function at the end of each stage.
    """
    lap = start_timer()
    duplicate, query_rows, queries = update_user_states(live, states, batch, policy.latest)
    lap("encode")

    def slates(part: UserSnapshots) -> _Slates:
        return _slates(live, neighbours, part, policy, states.layout, start_timer())

    made = _Slates.concatenate(list(map_fn(slates, _parts(queries))))
    lap = start_timer()
    ranked = _to_result(live, states, batch, duplicate, query_rows, made)
    lap("join")
    return ranked


def warm_up(live: ServableRelease, policy: Policy) -> None:
    """Rank nothing, so that the first batch need not wait for what is compiled at its first use."""
    layout = StateLayout(slate=policy.slate)
    states = UserStates(layout, live.index.dims, live.manifest.state_dims, room=1)
    slots = states.slots(["nobody"])
    states.restore(slots, states.copy(slots))
    inputs, first = np.zeros((1, live.index.dims), np.float32), np.zeros(1, np.int64)
    moves = EncoderInputs(first, inputs, np.zeros(1, np.uint8), inputs[:, 0])
    live.encoder.update(states.columns.recurrent[slots].astype(np.float32), moves)
    states.release(slots)
    batch = EventBatch.from_events([], states.slots([]), ItemVocabulary())
    rank(live, CoVisitRows(policy.neighbours), states, batch, policy)


@dataclass(frozen=True)
class _Slates:
    items: Rows  # [n, slate] -1 padded
    scores: Floats  # [n, slate]
    purchase: Floats | None  # [n, slate]

    @classmethod
    def concatenate(cls, parts: Sequence[_Slates]) -> _Slates:
        """The parts end to end."""
        purchases = [one.purchase for one in parts if one.purchase is not None]
        return cls(
            items=np.concatenate([one.items for one in parts]),
            scores=np.concatenate([one.scores for one in parts]),
            purchase=np.concatenate(purchases) if purchases else None,
        )


def _slates(
    live: ServableRelease,
    neighbours: CoVisitRows,
    queries: UserSnapshots,
    policy: Policy,
    layout: StateLayout,
    lap: Lap,
) -> _Slates:
    """What is best for n queries: retrieved, described, and put in order."""
    candidates = propose(queries, live.index, neighbours, policy, layout.own_half_life_s)
    lap("retrieve")
    features = build_features(queries, candidates, live.index, neighbours)
    lap("features")
    items, scores, at = rank_candidates(live, candidates, features, len(queries.now), policy.slate)
    purchase = None
    if policy.purchase and live.purchase is not None:
        shown = features[at] if len(features) else np.zeros((*at.shape, features.shape[1]), np.float32)
        purchase = np.where(at >= 0, live.purchase.probability(shown), np.float32(0))
    lap("order")
    return _Slates(items, scores, purchase)


def _parts(queries: UserSnapshots) -> Iterator[UserSnapshots]:
    """Of like size, one at least."""
    n = len(queries.now)
    size = min(max(FEWEST_AT_ONCE, n // PARTS), QUERIES_AT_ONCE)
    for start in range(0, max(n, 1), size):
        yield queries.part(start, start + size)


def update_user_states(
    live: ServableRelease, states: UserStates, batch: EventBatch, latest: bool = False
) -> tuple[NDArray[np.bool_], Positions, UserSnapshots]:
    """Enter the batch into the states.

    Which events [B] are duplicates; the positions [A], ascending, of the others, or of each user's latest; and the
    user's state right after each of those.
    """
    duplicate = states.seen_before(batch.slots, batch.keys)
    fresh = np.flatnonzero(~duplicate)
    users, user = np.unique(batch.slots, return_inverse=True)
    reencode_stale_users(live, states, users)
    query_rows = _latest(batch.slots, fresh) if latest else fresh
    since, queries = states.observe(
        batch.slots, batch.items, batch.types, batch.ts, batch.sessions, duplicate, query_rows
    )
    _encode(live, states, batch, users, user, fresh, since, query_rows, queries)
    return duplicate, query_rows, queries


def replay(states: UserStates, batch: EventBatch, live: ServableRelease | None = None) -> None:
    """Enter a batch without ranking: how a partition's states are restored.

    With the release that ranked these events the states become what they were then; without it, encoding waits for
    their users' next events.
    """
    if live is not None:
        update_user_states(live, states, batch)
        return
    duplicate = states.seen_before(batch.slots, batch.keys)
    none = np.empty(0, np.int64)
    states.observe(batch.slots, batch.items, batch.types, batch.ts, batch.sessions, duplicate, none)
    states.columns.encoded_by[batch.slots] = NOT_ENCODED


def rank_candidates(
    live: ServableRelease, candidates: Candidates, features: Floats, n: int, slate: int
) -> tuple[Rows, Floats, Positions]:
    """The best `slate` candidates of each of n queries: item rows [n, slate], -1 padded, scores [n, slate], and where
    they stand among the candidates [n, slate], -1 padded."""
    items, scores = np.full((n, slate), -1, np.int32), np.zeros((n, slate), np.float32)
    at = np.full((n, slate), -1, np.int64)
    top_k_per_query(live.order.score(features), candidates.query, candidates.item, items, scores, at)
    return items, scores, at


@compiled
def top_k_per_query(
    all_scores: Floats,  # [N]
    query: Counts,  # [N] ascending
    item: Rows,  # [N]
    items: Rows,  # [n, k] to be filled from the left, as are the others; -1 all
    scores: Floats,  # [n, k]
    at: Positions,  # [n, k]
) -> None:
    """The k greatest scores of each query, greatest first; of equal ones the first."""
    k, filled = scores.shape[1], 0
    for n in range(len(all_scores)):
        q = query[n]
        if n == 0 or query[n - 1] != q:
            filled = 0
        if filled < k or all_scores[n] > scores[q, k - 1]:
            insert_best_first(scores, at, q, filled, all_scores[n], n)
            filled = min(filled + 1, k)
    for q in range(len(at)):
        for position in range(k):
            if at[q, position] >= 0:
                items[q, position] = item[at[q, position]]


def _latest(slots: Slots, positions: Positions) -> Positions:
    """Those of a batch's positions, ascending, at which a slot stands for the last time."""
    backwards = positions[::-1]
    return np.sort(backwards[np.unique(slots[backwards], return_index=True)[1]])


def _encode(
    live: ServableRelease,
    states: UserStates,
    batch: EventBatch,
    users: Slots,  # [U] distinct, of the batch
    user: Positions,  # [B] place among them
    fresh: Positions,  # [F]
    since: NDArray[np.float32],  # [B]
    query_rows: Positions,  # [A] ascending
    queries: UserSnapshots,  # [A] to be given their vectors
) -> None:
    """Move the users' vectors by the events that move them."""
    columns = states.columns
    recurrent = columns.recurrent[users].astype(np.float32)
    vector = columns.vector[users].astype(np.float32)
    inputs, moves = _inputs(live, batch)
    moving = fresh[moves[fresh]]
    moved = live.encoder.update(
        recurrent, EncoderInputs(user[moving], inputs[moving], batch.types[moving], since[moving])
    )
    gather_vectors(vector, user, moving, moved, query_rows, queries.vector)
    columns.recurrent[users], columns.vector[users] = recurrent, vector


@compiled
def gather_vectors(
    vector: Vectors,  # [U, d] to be moved
    user: Positions,  # [B] place among them
    moving: Positions,  # [m] positions, ascending
    moved: Vectors,  # [m, d] the user's vector after each of those
    query_rows: Positions,  # [A] positions, ascending
    out: Vectors,  # [A, d] to be filled with the user's vector after each of those
) -> None:
    m = a = 0
    for b in range(len(user)):
        if m < len(moving) and moving[m] == b:
            for d in range(vector.shape[1]):
                vector[user[b], d] = moved[m, d]
            m += 1
        if a < len(query_rows) and query_rows[a] == b:
            for d in range(vector.shape[1]):
                out[a, d] = vector[user[b], d]
            a += 1


def _inputs(live: ServableRelease, batch: EventBatch) -> tuple[Vectors, NDArray[np.bool_]]:
    """Input vectors [B, d], and which events have one: an item nobody has described does not move the encoder."""
    moves = live.index.known(batch.items)
    inputs = np.zeros((len(batch), live.index.dims), np.float32)
    inputs[moves] = live.index.vectors(batch.items[moves])
    if batch.queries:
        at = list(batch.queries)
        inputs[at] = live.embed_queries(list(batch.queries.values()))
        moves[at] = True
    return inputs, moves


def reencode_stale_users(live: ServableRelease, states: UserStates, slots: Slots) -> None:
    """Rebuild the recurrent states that the live release did not make, from each user's history ring.

    `slots` [B] are distinct.
    """
    stale = slots[states.columns.encoded_by[slots] != live.number]
    for start in range(0, len(stale), USERS_AT_ONCE):
        _encode_histories(live, states, stale[start : start + USERS_AT_ONCE])


def _encode_histories(live: ServableRelease, states: UserStates, stale: Slots) -> None:
    columns = states.columns
    lists = states.copy(stale).lists
    there, place = ring_places(columns.observed[stale], states.layout.history)
    item = np.take_along_axis(lists.history_item, place, 1)
    user, nth = np.nonzero(there & live.index.known(item))
    place = place[user, nth]
    follows = np.diff(user, prepend=-1) == 0
    elapsed = np.diff(lists.history_s[user, place].astype(np.int64), prepend=0)
    since = np.where(follows, np.maximum(elapsed, 0), 0).astype(np.float32)

    recurrent = np.zeros((len(stale), columns.recurrent.shape[1]), np.float32)
    vector = np.zeros((len(stale), live.index.dims), np.float32)
    inputs, types = live.index.vectors(item[user, nth]), lists.history_type[user, place]
    vector[user] = live.encoder.update(
        recurrent, EncoderInputs(user, inputs, types, since)
    )  # the last of a user's stays
    columns.encoded_by[stale] = live.number
    columns.recurrent[stale], columns.vector[stale] = recurrent, vector


def _to_result(
    live: ServableRelease,
    states: UserStates,
    batch: EventBatch,
    duplicate: NDArray[np.bool_],
    query_rows: Positions,
    slates: _Slates,
) -> RankingResult:
    """Join each event with the slate its user had, which the event before may have made in this same batch."""
    ranked = np.zeros(len(batch), np.bool_)
    ranked[query_rows] = True
    slate, score = scatter(slates.items, query_rows, len(batch), -1), scatter(slates.scores, query_rows, len(batch), 0)
    release, size, place = (np.full(len(batch), fill, np.int32) for fill in (-1, 0, NO_SLATE))
    columns = states.columns
    join_feedback(
        columns.slate,
        columns.slate_release,
        batch.slots,
        batch.items,
        duplicate,
        ranked,
        slate,
        live.number,
        release,
        size,
        place,
    )
    purchase = None if slates.purchase is None else scatter(slates.purchase, query_rows, len(batch), 0)
    return RankingResult(duplicate, ranked, slate, score, release, size, place, purchase)


@compiled
def join_feedback(
    shown: Rows,  # [n, slate] by slot
    shown_release: NDArray[np.int32],  # [n] by slot
    slots: Slots,  # [B]
    items: Rows,  # [B]
    duplicate: NDArray[np.bool_],  # [B]
    ranked: NDArray[np.bool_],  # [B]
    slate: Rows,  # [B, slate]
    number: int,
    release: NDArray[np.int32],  # [B] to be filled, as are the others
    size: NDArray[np.int32],
    place: NDArray[np.int32],
) -> None:
    """Look each event's item up on the slate its user had, then show the one that was made after it."""
    for b in range(len(slots)):
        slot = slots[b]
        if duplicate[b]:
            continue
        release[b] = shown_release[slot]
        if release[b] >= 0:
            place[b] = NOT_ON_SLATE
        for n in range(shown.shape[1]):
            if shown[slot, n] >= 0:
                size[b] += 1
                if shown[slot, n] == items[b] and place[b] == NOT_ON_SLATE:
                    place[b] = n + 1
        if ranked[b]:
            for n in range(shown.shape[1]):
                shown[slot, n] = slate[b, n]
            shown_release[slot] = number


def scatter(values: NDArray[Number], at: Positions, n: int, fill: int) -> NDArray[Number]:
    """Values [A, …] where they belong among n, and `fill` everywhere else."""
    spread = np.full((n, *values.shape[1:]), fill, values.dtype)
    spread[at] = values
    return spread
