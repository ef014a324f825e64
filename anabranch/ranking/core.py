"""The ranker's core: a fold over batches of events. State in, slates and feedback and state out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import EVENT_TYPES, Event
from anabranch.ranking.candidates import Candidates, Floats, Policy, Positions, Queries, propose
from anabranch.ranking.features import build
from anabranch.ranking.index_base import Vectors
from anabranch.ranking.item_ids import ItemIds, Rows, stable_hash
from anabranch.ranking.live import LiveRelease
from anabranch.ranking.neighbours import NeighbourTable
from anabranch.ranking.state import Slots, StateLayout, UserStates

Number = TypeVar("Number", np.int32, np.float32)

NO_SLATE = -1
"""The rank of an event whose user had been shown nothing."""
NOT_ON_SLATE = 0
NOT_ENCODED = -1
QUERIES_AT_ONCE = 64
"""What so many queries take to rank fits into a core's cache; a whole batch's would be fetched from memory thrice."""


@dataclass(frozen=True)
class Batch:
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
    def of(
        cls, events: Sequence[Event], slots: Slots, item_ids: ItemIds, appended_ms: Sequence[int] | None = None
    ) -> Batch:
        """Columns of decoded events whose users have `slots` [B].

        `appended_ms` [B] is when each was appended to the log, below 0 where that is unknown: an event cannot have
        happened later, whatever its producer's clock said.
        """
        ts = [e.ts for e in events]
        if appended_ms is not None:
            ts = [told if at < 0 else min(told, at) for told, at in zip(ts, appended_ms, strict=True)]
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
class Ranked:
    """What came of a batch, by event."""

    duplicate: NDArray[np.bool_]  # [B] an event seen before: nothing else holds for it
    ranked: NDArray[np.bool_]  # [B] a slate was made right after it; all but duplicates, unless the latest alone are
    slate: Rows  # [B, slate] -1 padded
    score: Floats  # [B, slate]
    shown_release: NDArray[np.int32]  # [B] number of the release whose slate the user had, -1: none
    shown_size: NDArray[np.int32]  # [B]
    rank: NDArray[np.int32]  # [B] place of the event's item on that slate from 1, NOT_ON_SLATE or NO_SLATE
    purchase: Floats | None = None  # [B, slate] probability that the user buys it; None: not asked for, or no such head


Passed = Callable[[str], None]
"""Told the name of a stage at its end."""


def _no_clock() -> Passed:
    return lambda stage: None


def rank(
    live: LiveRelease,
    neighbours: NeighbourTable,
    states: UserStates,
    batch: Batch,
    policy: Policy,
    begin: Callable[[], Passed] = _no_clock,
    each: Callable[[Callable[[int], _Slates], range], Iterable[_Slates]] = map,
) -> Ranked:
    """Move every user of the batch one step per event and rank after each, in log order per user.

    A wave holds at most one event per user, so waves keep the order; retrieval and order, which need none, then run
    over the whole batch, `QUERIES_AT_ONCE` events at a time: one after the other, or beside one another where `each`
    is the `map` of a pool of threads. `states` changes in place. Clocks stay outside: whatever runs in one stretch
    calls `begin`, and tells what that returns of each stage it has passed.
    """
    passed = begin()
    duplicate, asked, queries = advance(live, states, batch, policy.latest)
    passed("encode")

    def slates(start: int) -> _Slates:
        return _slates(live, neighbours, queries.part(start, start + QUERIES_AT_ONCE), policy, states.layout, begin())

    parts = list(each(slates, range(0, max(len(asked), 1), QUERIES_AT_ONCE)))
    passed = begin()
    ranked = _join(live, states, batch, duplicate, asked, _Slates.concatenate(parts))
    passed("join")
    return ranked


def warm_up(live: LiveRelease, policy: Policy) -> None:
    """Rank nothing, so that the first batch need not wait for what is compiled at its first use."""
    layout = StateLayout(slate=policy.slate)
    states = UserStates(layout, live.index.dims, live.manifest.state_dims, room=1)
    batch = Batch.of([], states.slots([]), ItemIds())
    rank(live, NeighbourTable(policy.neighbours), states, batch, policy)


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
    live: LiveRelease,
    neighbours: NeighbourTable,
    queries: Queries,
    policy: Policy,
    layout: StateLayout,
    passed: Passed,
) -> _Slates:
    """What is best for n queries: retrieved, described, and put in order."""
    candidates = propose(queries, live.index, neighbours, policy)
    passed("retrieve")
    features = build(queries, candidates, live.index, neighbours, layout.own_half_life_s)
    passed("features")
    items, scores, at = put_in_order(live, candidates, features, len(queries), policy.slate)
    purchase = None
    if policy.purchase and live.purchase is not None:
        shown = features[at] if len(features) else np.zeros((*at.shape, features.shape[1]), np.float32)
        purchase = np.where(at >= 0, live.purchase.probability(shown), np.float32(0))
    passed("order")
    return _Slates(items, scores, purchase)


def advance(
    live: LiveRelease, states: UserStates, batch: Batch, latest: bool = False
) -> tuple[NDArray[np.bool_], Positions, Queries]:
    """Enter the batch into the states.

    Which events [B] are duplicates, the positions [A] of the others (of each user's latest alone, if `latest`), and
    the user's state right after each of those.
    """
    duplicate = np.zeros(len(batch), np.bool_)
    parts, order = [], []
    for wave, seen in _enter(live, states, batch):
        duplicate[wave] = seen
        order.append(wave[~seen])
        if not latest:
            parts.append(Queries.of(states, batch.slots[order[-1]]))
    if latest:
        asked = _latest(batch.slots, np.flatnonzero(~duplicate))
        return duplicate, asked, Queries.of(states, batch.slots[asked])
    asked = np.concatenate(order)
    in_order = np.argsort(asked)
    return duplicate, asked[in_order], Queries.concatenate(parts, in_order)


def fold(states: UserStates, batch: Batch, live: LiveRelease | None = None) -> None:
    """Enter a batch without ranking: how a partition's states are restored.

    With the release that ranked these events the states become what they were then; without it, encoding waits for
    their users' next events.
    """
    for _ in _enter(live, states, batch):
        pass
    if live is None:
        states.columns.encoded_by[batch.slots] = NOT_ENCODED


def put_in_order(
    live: LiveRelease, candidates: Candidates, features: Floats, n: int, slate: int
) -> tuple[Rows, Floats, Positions]:
    """The best `slate` candidates of each of n queries: item rows [n, slate], -1 padded, scores [n, slate], and where
    they stand among the candidates [n, slate], -1 padded."""
    items, scores = np.full((n, slate), -1, np.int32), np.zeros((n, slate), np.float32)
    at = np.full((n, slate), -1, np.int64)
    if len(candidates.item) == 0:
        return items, scores, at
    counts = np.bincount(candidates.query, minlength=n)
    first = np.cumsum(counts) - counts
    place = np.arange(len(candidates.query)) - np.repeat(first, counts)
    all_scores = np.full((n, counts.max()), -np.inf, np.float32)
    all_scores[candidates.query, place] = live.order.score(features)

    there = np.arange(all_scores.shape[1]) < counts[:, None]
    best = greatest(all_scores, slate)  # [n, up to slate]
    found = np.take_along_axis(there, best, axis=1)
    width = best.shape[1]
    at[:, :width] = np.where(found, first[:, None] + best, -1)
    items[:, :width] = np.where(found, candidates.item[at[:, :width]], -1)
    scores[:, :width] = np.where(found, np.take_along_axis(all_scores, best, axis=1), 0)
    return items, scores, at


def greatest(scores: Floats, k: int) -> Positions:
    """Where the k greatest scores of each row [B, n] stand, greatest first; of equal ones the first. [B, min(k, n)].

    Scores become integers of the same order, and the place their last bits, so that no two are equal and any way of
    picking the greatest picks the same.
    """
    bits = (scores + np.float32(0)).view(np.int32)  # no minus zero
    ordered = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
    keys = (ordered << 32) | np.arange(scores.shape[1] - 1, -1, -1)
    k = min(k, scores.shape[1])
    some = np.argpartition(keys, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k :]
    return np.take_along_axis(some, np.argsort(-np.take_along_axis(keys, some, axis=1), axis=1), axis=1)


def waves(slots: Slots) -> Iterator[Positions]:
    """Positions of a batch in waves: each slot at most once a wave, a slot's events in order over the waves.

    There is always a wave, if an empty one.
    """
    by_slot = np.argsort(slots, kind="stable")
    grouped = slots[by_slot]
    first = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]])
    nth = np.arange(len(slots)) - np.repeat(first, np.diff(np.r_[first, len(slots)]))
    wave_of = np.empty(len(slots), np.int64)
    wave_of[by_slot] = nth
    for wave in range(int(nth.max(initial=0)) + 1):
        yield np.flatnonzero(wave_of == wave)


def _latest(slots: Slots, positions: Positions) -> Positions:
    """Those of a batch's positions, ascending, at which a slot stands for the last time."""
    backwards = positions[::-1]
    return np.sort(backwards[np.unique(slots[backwards], return_index=True)[1]])


def _enter(live: LiveRelease | None, states: UserStates, batch: Batch) -> Iterator[tuple[Positions, NDArray[np.bool_]]]:
    """Enter the batch wave by wave; yields a wave's positions, and which of its events were seen before."""
    if live is not None:
        encode_anew(live, states, np.unique(batch.slots))
        inputs, moves = _inputs(live, batch)
    for wave in waves(batch.slots):
        seen = states.seen_before(batch.slots[wave], batch.keys[wave])
        fresh = wave[~seen]
        if live is not None:
            stepping = fresh[moves[fresh]]
            _step(live, states, batch.slots[stepping], inputs[stepping], batch.types[stepping], batch.ts[stepping])
        states.observe(
            batch.slots[fresh], batch.items[fresh], batch.types[fresh], batch.ts[fresh], batch.sessions[fresh]
        )
        yield wave, seen


def _inputs(live: LiveRelease, batch: Batch) -> tuple[Vectors, NDArray[np.bool_]]:
    """Input vectors [B, d], and which events have one: an item nobody has described does not move the encoder."""
    moves = live.index.known(batch.items)
    inputs = np.zeros((len(batch), live.index.dims), np.float32)
    inputs[moves] = live.index.vectors(batch.items[moves])
    if batch.queries:
        at = list(batch.queries)
        inputs[at] = live.embed_queries(list(batch.queries.values()))
        moves[at] = True
    return inputs, moves


def _step(
    live: LiveRelease,
    states: UserStates,
    slots: Slots,
    inputs: Vectors,
    types: NDArray[np.uint8],
    ts: NDArray[np.int64],
) -> None:
    if len(slots) == 0:
        return
    columns = states.columns
    last = columns.last_ts[slots]
    since = np.where(last >= 0, np.maximum(ts - last, 0) / 1000, 0).astype(np.float32)
    columns.recurrent[slots], columns.vector[slots] = live.step.step(columns.recurrent[slots], inputs, types, since)


def encode_anew(live: LiveRelease, states: UserStates, slots: Slots) -> None:
    """Rebuild the recurrent states that the live release did not make, from each user's history ring.

    `slots` [B] are distinct.
    """
    columns = states.columns
    stale = slots[columns.encoded_by[slots] != live.number]
    columns.encoded_by[stale] = live.number
    columns.recurrent[stale] = 0
    columns.vector[stale] = 0
    depth = int(np.minimum(columns.observed[stale], states.layout.history).max(initial=0))
    last = np.full(len(stale), -1, np.int64)
    for age in range(depth, 0, -1):
        place = (columns.observed[stale] - age) % states.layout.history
        items, ts = columns.history_item[stale, place], columns.history_ts[stale, place]
        moves = (columns.observed[stale] >= age) & live.index.known(items)
        slot, since = stale[moves], np.where(last >= 0, np.maximum(ts - last, 0) / 1000, 0)[moves]
        if len(slot):
            columns.recurrent[slot], columns.vector[slot] = live.step.step(
                columns.recurrent[slot],
                live.index.vectors(items[moves]),
                columns.history_type[stale, place][moves],
                since.astype(np.float32),
            )
        last[moves] = ts[moves]


def _join(
    live: LiveRelease,
    states: UserStates,
    batch: Batch,
    duplicate: NDArray[np.bool_],
    asked: Positions,
    slates: _Slates,
) -> Ranked:
    """Join each event with the slate its user had, which the event before may have made in this same batch."""
    columns = states.columns
    ranked = np.zeros(len(batch), np.bool_)
    ranked[asked] = True
    slate, score = _spread(slates.items, asked, len(batch), -1), _spread(slates.scores, asked, len(batch), 0)
    release, size, place = (np.full(len(batch), fill, np.int32) for fill in (-1, 0, NO_SLATE))
    for wave in waves(batch.slots):
        fresh = wave[~duplicate[wave]]
        slots = batch.slots[fresh]
        shown = columns.slate[slots]
        release[fresh] = columns.slate_release[slots]
        size[fresh] = (shown >= 0).sum(axis=1)
        hit = (shown == batch.items[fresh][:, None]) & (shown >= 0)
        found = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, NOT_ON_SLATE)
        place[fresh] = np.where(release[fresh] >= 0, found, NO_SLATE)
        made = wave[ranked[wave]]
        columns.slate[batch.slots[made]], columns.slate_release[batch.slots[made]] = slate[made], live.number
    purchase = None if slates.purchase is None else _spread(slates.purchase, asked, len(batch), 0)
    return Ranked(duplicate, ranked, slate, score, release, size, place, purchase)


def _spread(values: NDArray[Number], at: Positions, n: int, fill: int) -> NDArray[Number]:
    """Values [A, …] where they belong among n, and `fill` everywhere else."""
    spread = np.full((n, *values.shape[1:]), fill, values.dtype)
    spread[at] = values
    return spread
