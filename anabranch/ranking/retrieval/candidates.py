"""Candidates: the items to rank for a query, from the item index, the co-visit table and the user's own events."""

from __future__ import annotations

import numpy as np

from anabranch.ranking.item_classes import IN_SESSION, NEW, SEEN
from anabranch.ranking.jit import compiled, compiled_inline
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.candidate_columns import (
    BY_CO_VISITS,
    BY_INDEX,
    BY_NEWNESS,
    BY_OWN_EVENTS,
    BY_POPULARITY,
    BY_RULES,
    Candidates,
)
from anabranch.ranking.retrieval.candidate_sources import EXCLUDED, FREE, ItemFilter, Scratch, SourceEnds, Sources
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.retrieval.item_attributes import NO_NAME
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.retrieval.new_items import nearest_new_items
from anabranch.ranking.retrieval.retrieve import retrieve
from anabranch.ranking.types import Counts, Hashes, Rows
from anabranch.ranking.user_state.snapshot import UserSnapshots

HASH = 0x9E3779B1
"""Spreads rows over a table: 2 ** 32 divided by the golden ratio (Knuth, The Art of Computer Programming, 6.4)."""
POPULAR_TO_NEW_USERS = 100
"""Popular items that are proposed to a user without a history, for whom there is nothing else to go by."""


def propose(
    queries: UserSnapshots, index: ItemIndex, co_visits: CoVisitRows, policy: Policy, half_life_s: int
) -> Candidates:
    """The union of retrieved items, neighbours, new, popular, pinned and long-term items and history, less those that
    no placement shows and those that the user dislikes."""
    retrieved = retrieve(index, queries, policy)
    history = queries.recent.shape[1]
    newest = min(policy.recent, history)
    weights = np.array(policy.co_visit_scoring.weights[:history], np.float32)
    pinned, popular = policy.rules.proposed_items, _popular(queries, index, co_visits)
    new = nearest_new_items(index, co_visits, queries.vector, policy.explored_new_items)
    own, shared = history + queries.long_term.item.shape[1], len(pinned) + len(popular) + new.shape[1]
    others = own + shared + newest * co_visits.width
    candidates = Candidates.empty(len(retrieved) * (others + policy.retrieval_k), len(retrieved))
    n = _unite(
        candidates,
        Scratch.empty(others + retrieved.shape[1] + queries.disliked_item.shape[1], history),
        Sources(
            queries=queries,
            co_visits=co_visits.columns,
            newest=newest,
            weights=weights,
            own_share=policy.co_visit_scoring.own_share,
            categories=index.columns.categories,
            pinned=pinned,
            popular=popular,
            new=new,
            retrieved=retrieved,
        ),
        ItemFilter(
            servable=index.columns.servable,
            hidden=policy.rules.hidden_everywhere,
            candidate_classes=policy.candidate_classes,
            retrieval_classes=policy.retrieval_classes,
            retrieval_k=policy.retrieval_k,
        ),
        half_life_s,
    )
    return candidates.first(n)


def _popular(queries: UserSnapshots, index: ItemIndex, co_visits: CoVisitRows) -> Rows:
    """The most popular items, if a query needs them."""
    if not (queries.recent[:, 0] < 0).any():
        return np.empty(0, np.int32)
    return co_visits.most_popular(POPULAR_TO_NEW_USERS, index.columns.hashes)


@compiled
def _unite(
    candidates: Candidates, scratch: Scratch, sources: Sources, item_filter: ItemFilter, half_life_s: int
) -> int:
    """Fill in the candidates of B queries, and return their number.

    One step per source and query, inlined: a call per item was measured three times slower, and as functions of their
    own these take a second more to compile.
    """
    n = 0
    for q in range(len(sources.retrieved)):
        ends = _gather(sources, q, scratch.item)
        _exclude_disliked(scratch, sources.queries, q)
        start, n = n, _deduplicate(candidates, scratch, item_filter, ends, q, n)
        _add_history(candidates, scratch.candidate, sources.queries, q, half_life_s)
        _add_long_term(candidates, scratch.candidate, sources.queries, q, half_life_s)
        _add_co_visits(candidates, scratch, sources, q)
        _count_categories(candidates, scratch.category, sources, q, start, n)
    return n


@compiled_inline
def _gather(sources: Sources, q: int, item: Rows) -> SourceEnds:
    """Write the items of all sources of query q to `item`; where each source ends."""
    queries, near, retrieved = sources.queries, sources.co_visits.rows, sources.retrieved
    history = queries.recent.shape[1]
    for k in range(history):
        item[k] = queries.recent[q, k]
    end = long_term = history + queries.long_term_size[q]
    for k in range(queries.long_term_size[q]):
        item[history + k] = queries.long_term.item[q, k]
    for k in range(len(sources.pinned)):
        item[end + k] = sources.pinned[k]
    end += len(sources.pinned)
    pinned = end
    if queries.recent[q, 0] < 0:
        for k in range(len(sources.popular)):
            item[end + k] = sources.popular[k]
        end += len(sources.popular)
    popular = end
    for k in range(sources.new.shape[1]):
        item[end + k] = sources.new[q, k]
    end += sources.new.shape[1]
    new = end
    for back in range(sources.newest):
        newest = queries.recent[q, back]
        has_neighbours = 0 <= newest < len(near)
        for k in range(near.shape[1]):
            item[end + k] = near[newest, k] if has_neighbours else -1
        end += near.shape[1]
    for k in range(retrieved.shape[1]):
        item[end + k] = retrieved[q, k]
    return SourceEnds(
        queries.session_length[q], history, long_term, pinned, popular, new, end, end + retrieved.shape[1]
    )


@compiled_inline
def _exclude_disliked(scratch: Scratch, queries: UserSnapshots, q: int) -> None:
    """Clear the table of items, but for those that the user of query q does not want to see, whatever proposes them."""
    for entry in range(len(scratch.value)):
        scratch.value[entry] = FREE
    for item in queries.disliked_item[q]:
        if item < 0:
            break
        entry = _find(scratch, item)
        scratch.key[entry], scratch.value[entry] = item, EXCLUDED


@compiled_inline
def _deduplicate(
    candidates: Candidates, scratch: Scratch, item_filter: ItemFilter, ends: SourceEnds, q: int, n: int
) -> int:
    """Make every item of query q that passes the filter one candidate, from the n-th on; the number of all so far."""
    key, value = scratch.key, scratch.value
    counted, session_end, own_end = 0, n, n
    for k in range(ends.retrieved):
        if k == ends.session:
            session_end = n
        if k == ends.long_term:
            own_end = n
        item = scratch.item[k]
        scratch.candidate[k] = -1
        if item < 0 or item >= len(item_filter.servable) or not item_filter.servable[item]:
            continue
        if item < len(item_filter.hidden) and item_filter.hidden[item]:
            continue
        entry = _find(scratch, item)
        if value[entry] == FREE:
            key[entry] = item
            of_class = IN_SESSION if k < ends.session else SEEN if k < ends.long_term else NEW
            if item_filter.candidate_classes[of_class]:
                value[entry], candidates.query[n], candidates.item[n] = n, q, item
                n += 1
            else:
                value[entry] = EXCLUDED
        scratch.candidate[k] = max(value[entry], -1)
        if value[entry] == EXCLUDED:
            continue
        candidates.proposed_by[value[entry]] |= _source(ends, k)
        if k >= ends.co_visits:
            of_class = IN_SESSION if value[entry] < session_end else SEEN if value[entry] < own_end else NEW
            counted += item_filter.retrieval_classes[of_class]
            if counted == item_filter.retrieval_k:
                break
    return n


@compiled_inline
def _source(ends: SourceEnds, k: int) -> int:
    """The source of the k-th item of all."""
    if k < ends.long_term:
        return BY_OWN_EVENTS
    if k < ends.pinned:
        return BY_RULES
    if k < ends.popular:
        return BY_POPULARITY
    if k < ends.new:
        return BY_NEWNESS
    return BY_CO_VISITS if k < ends.co_visits else BY_INDEX


@compiled_inline
def _add_history(candidates: Candidates, candidate: Counts, queries: UserSnapshots, q: int, half_life_s: int) -> None:
    """Count the events of the user's history, each halved every `half_life_s`, and those of the current session."""
    now_s = queries.now[q] / 1000
    for k in range(queries.recent.shape[1]):
        if queries.recent[q, k] < 0:
            continue
        second = queries.recent_s[q, k]
        weight = np.float32(np.exp2((second - now_s) / half_life_s))
        candidates.all_own[q] += weight
        c = candidate[k]
        if c < 0:
            continue
        candidates.own[c] += weight
        candidates.own_count[c] += 1
        candidates.own_first_s[c] = min(candidates.own_first_s[c], second)
        candidates.own_last_s[c] = max(candidates.own_last_s[c], second)
        if k < queries.session_length[q]:
            candidates.session_count[c] += 1
            if candidates.session_at[c] < 0:
                candidates.session_at[c] = k


@compiled_inline
def _add_long_term(candidates: Candidates, candidate: Counts, queries: UserSnapshots, q: int, half_life_s: int) -> None:
    """Add the counts of the user's events before the history."""
    history, now = queries.recent.shape[1], queries.now[q] / 1000 / half_life_s
    for k in range(queries.long_term_size[q]):
        weight = np.float32(np.exp2(queries.long_term.log2_decayed_count[q, k] - now))
        candidates.all_own[q] += weight
        c = candidate[history + k]
        if c < 0:
            continue
        candidates.own[c] += weight
        candidates.own_count[c] += queries.long_term.event_count[q, k]
        candidates.own_first_s[c] = min(candidates.own_first_s[c], queries.long_term.first_s[q, k])
        candidates.own_last_s[c] = max(candidates.own_last_s[c], queries.long_term.last_s[q, k])


@compiled_inline
def _add_co_visits(candidates: Candidates, scratch: Scratch, sources: Sources, q: int) -> None:
    """Score the newest history items and their neighbours, where they are candidates."""
    near, shares = sources.co_visits.rows, sources.co_visits.weights
    own_share, session = np.float32(sources.own_share), sources.queries.session_length[q]
    for back in range(max(len(sources.weights), session)):
        newest = sources.queries.recent[q, back]
        weight = sources.weights[back] if back < len(sources.weights) else np.float32(0)
        if scratch.candidate[back] >= 0:
            candidates.co_visit_recent[scratch.candidate[back]] += weight * own_share
        for k in range(near.shape[1] if 0 <= newest < len(near) else 0):
            if near[newest, k] < 0:
                break
            c = scratch.value[_find(scratch, near[newest, k])]
            if c < 0:
                continue
            candidates.co_visit_recent[c] += weight * shares[newest, k]
            if back == 0:
                candidates.co_visit_last[c] += shares[newest, k]
            if back < session:
                candidates.co_visit_session[c] += shares[newest, k]


@compiled_inline
def _count_categories(candidates: Candidates, session: Hashes, sources: Sources, q: int, start: int, end: int) -> None:
    """Count the events of query q's session about items of the category of each of its candidates, `start` to `end`."""
    described = 0
    for back in range(sources.queries.session_length[q]):
        item = sources.queries.recent[q, back]
        if 0 <= item < len(sources.categories) and sources.categories[item] != NO_NAME:
            session[described] = sources.categories[item]
            described += 1
    for c in range(start, end):
        category = sources.categories[candidates.item[c]]
        for k in range(described):
            candidates.session_category[c] += session[k] == category


@compiled_inline
def _find(scratch: Scratch, item: int) -> int:
    """The entry of the hash table that has an item, or else the free one where it belongs."""
    mask = len(scratch.key) - 1
    entry = (item * HASH >> 16) & mask
    while scratch.value[entry] != FREE and scratch.key[entry] != item:
        entry = (entry + 1) & mask
    return entry
