"""The core of the ranker: events and user states in; slates, feedback and updated user states out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.inference.user_encoder import EncoderInputs
from anabranch.ranking.pipeline.exploration import Places, draw_keys
from anabranch.ranking.pipeline.feedback import FeedbackColumns, NewSlates, join_feedback
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.pipeline.slates import Lap, Slates, make_slates
from anabranch.ranking.pipeline.user_update import UserUpdate, current_snapshots, update_user_states
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.rules_in_force import NO_PINS, RulesInForce
from anabranch.ranking.types import Counts, Floats, Mask, Positions, Rows
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.snapshot import UserSnapshots
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary

Number = TypeVar("Number", np.int32, np.float32, np.uint8)

MAX_PART_QUERIES, MIN_PART_QUERIES = 64, 16
"""Queries that are ranked at a time. What the maximum needs fits into a core's cache; a whole batch's would be read
from memory three times. Small batches make parts of the minimum, so that all threads have some work; smaller parts
would spend more time on calls."""
MIN_PARTS = 8
"""A batch is ranked in at least so many parts, unless they would be too small: with fewer, threads that have finished
would wait longer for the last one."""


@dataclass(frozen=True)
class RankingResult:
    """The results for the B events of a batch."""

    duplicate: Mask  # [B] events seen before: nothing else holds for them
    unknown_item: Mask  # [B] events about an item without a vector
    ranked: Mask  # [B] events with slates: no duplicates or impressions; with `Policy.latest` each user's last action
    slates: Rows  # [B, P, slate] of each placement, -1 padded
    scores: Floats  # [B, P, slate]
    explored: Places  # [B] of the first placement
    explored_new: Places  # [B] how many of these have a new item
    resting: Counts  # [B] candidates that rest, those of all placements added up
    feedback: FeedbackColumns  # [B] about the slates that the event's user had been shown
    purchase: Floats | None = None  # [B, slate] of the first placement's items; None: not wanted, or no such head

    @property
    def slate(self) -> Rows:
        """[B, slate] of the first placement"""
        return self.slates[:, 0]

    @property
    def score(self) -> Floats:
        """[B, slate] of the first placement"""
        return self.scores[:, 0]


def _no_timer() -> Lap:
    return lambda stage: None


def rank(
    live: ServableRelease,
    co_visits: CoVisitRows,
    states: UserStates,
    batch: EventBatch,
    policy: Policy,
    start_timer: Callable[[], Lap] = _no_timer,
    map_fn: Callable[[Callable[[UserSnapshots], Slates], Iterable[UserSnapshots]], Iterable[Slates]] = map,
) -> RankingResult:
    """Update the user states by every event of the batch, in log order per user, and rank after each event.

    `states` changes in place. After that, queries are independent: they are ranked in parts, one after the other, or in
    parallel if `map_fn` is the `map` of a thread pool. The core reads no clock: each part calls `start_timer`, and the
    function that it returns at the end of each stage. These two are the caller's clock and threads, beyond the five
    parameters that determine the result.

    Raises `ValueError` if the policy ranks for other placements than the states keep slates of.
    """
    names, in_states = policy.placement_names, states.layout.placements
    if names != in_states:
        raise ValueError(f"the policy ranks for {', '.join(names)}; the states are for {', '.join(in_states)}")
    lap = start_timer()
    update = update_user_states(live, states, batch, policy.latest)
    if policy.explore_places:
        update.snapshots.draw_key[:] = draw_keys(batch.columns, update.ranked)
    lap("encode")

    def slates_of(part: UserSnapshots) -> Slates:
        return make_slates(live, co_visits, part, policy, states.layout, start_timer())

    slates = Slates.concatenate(list(map_fn(slates_of, _parts(update.snapshots))))
    lap = start_timer()
    result = _join(live, states, batch, update, slates)
    lap("join")
    return result


def warm_up(live: ServableRelease, policy: Policy, layout: StateLayout) -> None:
    """Rank an empty batch, so that the first real one does not wait for compilation."""
    states = UserStates(layout, live.index.dims, live.manifest.state_dims, capacity=1)
    slots = states.slots(["nobody", "somebody"])  # arrays of one row would compile for another memory layout
    states.restore(slots, states.snapshot(slots))
    current_snapshots(live, states, slots)
    inputs, user = np.zeros((1, live.index.dims), np.float32), np.zeros(1, np.int64)
    event = EncoderInputs(user, inputs, np.zeros(1, np.uint8), inputs[:, 0])
    live.encoder.update(states.columns.recurrent[slots].astype(np.float32), event)
    item_ids = ItemVocabulary()
    item_ids.mentioned(["named later"])
    item_ids.row("named later")
    states.renumber_items(*item_ids.settle())
    item_ids.sweep(states.unnamed_in_use(item_ids.unnamed_end))
    states.columns.saved_at[slots] = 0
    states.evict(slots)
    states.free_slots(states.slots(["nobody"]))
    batch = EventBatch.from_events([], states.slots([]), item_ids)
    for rules in (policy.rules, RulesInForce(pins={0: NO_PINS})):
        rank(live, CoVisitRows(policy.neighbours), states, batch, replace(policy, rules=rules))


def _parts(queries: UserSnapshots) -> Iterator[UserSnapshots]:
    """At least one part, all of about the same size."""
    n = len(queries.now)
    size = min(max(MIN_PART_QUERIES, n // MIN_PARTS), MAX_PART_QUERIES)
    for start in range(0, max(n, 1), size):
        yield queries.select(slice(start, start + size))


def _join(
    live: ServableRelease, states: UserStates, batch: EventBatch, update: UserUpdate, slates: Slates
) -> RankingResult:
    """Put the slates back in the order of the batch, and join each event with the slates that its user had."""
    n = len(batch)
    ranked = np.zeros(n, np.bool_)
    ranked[update.ranked] = True
    items, scores = scatter(slates.items, update.ranked, n, -1), scatter(slates.scores, update.ranked, n, 0)
    explored, explored_new = (scatter(places, update.ranked, n, 0) for places in (slates.explored, slates.explored_new))
    resting = scatter(slates.resting, update.ranked, n, 0)
    purchase = None if slates.purchase is None else scatter(slates.purchase, update.ranked, n, 0)
    new = NewSlates(ranked, items, explored)
    feedback = join_feedback(states.activity, batch.columns, update.duplicate, new, live.number)
    return RankingResult(
        duplicate=update.duplicate,
        unknown_item=update.unknown_item,
        ranked=ranked,
        slates=items,
        scores=scores,
        explored=explored,
        explored_new=explored_new,
        resting=resting,
        feedback=feedback,
        purchase=purchase,
    )


def scatter(values: NDArray[Number], indices: Positions, n: int, fill: int) -> NDArray[Number]:
    """An array [n, …] with the values [A, …] at the indices [A], and `fill` everywhere else."""
    scattered = np.full((n, *values.shape[1:]), fill, values.dtype)
    scattered[indices] = values
    return scattered
