"""Slates on request, made by the core that ranks the stream, from user states and what is live."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from anabranch.http.messages.serving import MAX_ITEMS, AnsweredItem, PreviewAnswer
from anabranch.placements import Placement
from anabranch.ranking.pipeline.popularity_order import by_popularity
from anabranch.ranking.pipeline.restriction import (
    AllowedCandidates,
    allowed_candidates,
    candidates_for_slate,
    popular_candidates,
    restrict,
    showable,
)
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.pipeline.slates import RequestedSlates, requested_slates
from anabranch.ranking.policy import Policy
from anabranch.ranking.reasons.explain import ExplainedRanking
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.rules.rule_book import numbered_if_known
from anabranch.ranking.rules_in_force import NO_RULES
from anabranch.ranking.types import Floats, Rows
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.snapshot import UserSnapshots
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.settings import Settings
from consumers.api.answers.explanations import Explanations
from consumers.api.answers.item_queries import answered_item, meeting
from consumers.api.answers.queries import ItemsAnswer, PreviewQuery, RankQuery, SlateQuery
from consumers.api.answers.users import Users
from consumers.releases.serving_model import ServingModel

NAMED_ITEMS = Placement(name="named_items")
"""For items that a request names: all of them, whether the user has had them or not."""


@dataclass(frozen=True)
class User:
    """Whom a query is about."""

    state: UserSnapshots
    """Of this user, and perhaps of others."""
    row: int
    """Which of them."""
    is_known: bool
    """Whether there are events of the user, on the log or in the query."""

    @property
    def as_of(self) -> int | None:
        """When the user last did something; None: never."""
        return int(self.state.now[self.row]) if self.is_known and self.state.now[self.row] > 0 else None


@dataclass(frozen=True)
class RankedUsers:
    """A ranking for n users, and all that it is made of."""

    live: ServableRelease
    co_visits: CoVisitRows
    states: UserSnapshots
    policy: Policy
    layout: StateLayout
    proposed: AllowedCandidates | None = None
    """What a request's conditions let through, as further candidates."""

    @cached_property
    def slates(self) -> RequestedSlates:
        """Of all placements."""
        slates = requested_slates(self.live, self.co_visits, self.states, self.policy, self.layout)
        if self.proposed is None:
            return slates
        return slates._replace(proposed_by=self.proposed.sources(slates.items, slates.proposed_by))

    def explained(self, row: int) -> ExplainedRanking:
        """That of one of the users, to be explained."""
        policy, state = replace(self.policy, explore_places=0), self.states.select(slice(row, row + 1))
        return ExplainedRanking(self.live, self.co_visits, state, policy, self.layout)


class Recommender:
    """Ranks for users. Its answers are those of the stream: the same candidates, features, order, rules and placements,
    but for explored places, of which there are none."""

    def __init__(self, settings: Settings, model: ServingModel, users: Users, items: ItemVocabulary) -> None:
        self._placements = tuple(placement.name for placement in settings.placements)
        self._layout = StateLayout.from_settings(settings)
        self._model = model
        self._explanations = Explanations(model, items)
        self._users = users
        self._items = items

    def slates(self, queries: Sequence[SlateQuery], now_ms: int) -> list[ItemsAnswer]:
        """The answer to each query. Queries for all items, which are most, are ranked together.

        `now_ms`: the time for users without an event. Raises what loading evicted users raises.
        """
        answers: dict[int, ItemsAnswer] = {}
        together: dict[int, dict[int, SlateQuery]] = defaultdict(dict)
        for number, query in enumerate(queries):
            if query.conditions.is_empty:
                together[self._length(query)][number] = query
            else:
                answers[number] = self._restricted(query, now_ms)
        for length, of_length in together.items():
            answers |= self._unrestricted(of_length, length, now_ms)
        return [answers[number] for number in range(len(queries))]

    def _unrestricted(self, queries: Mapping[int, SlateQuery], length: int, now_ms: int) -> dict[int, ItemsAnswer]:
        """The answers to queries for all items, by number. The states of users without further events are read at
        once."""
        slots = {n: self._slot(query) for n, query in queries.items()}
        plain = {n: slot for n, slot in slots.items() if slot is not None and not queries[n].events}
        others = {n: self._user(query, slots[n], now_ms) for n, query in queries.items() if n not in plain}
        parts = [user.state for user in others.values()]
        if plain:
            parts.append(self._users.snapshots(self._model.required_live, list(plain.values())))
        states = UserSnapshots.concatenate(parts)
        numbers, is_unknown = np.array([*others, *plain]), states.now <= 0
        answers: dict[int, ItemsAnswer] = {}
        for of_kind in (~is_unknown, is_unknown):
            if of_kind.any():
                part = states if of_kind.all() else states.select(np.flatnonzero(of_kind))
                ranking = self._ranking(part, self._model.policy, length, now_ms)
                answers |= {
                    n: self._answer(queries[n], User(part, row, n in plain or others[n].is_known), ranking)
                    for row, n in enumerate(numbers[of_kind].tolist())
                }
        return answers

    def _restricted(self, query: SlateQuery, now_ms: int) -> ItemsAnswer:
        index, co_visits, policy = self._model.required_live.index, self._model.co_visits, self._model.policy
        user, length = self._user(query, self._slot(query), now_ms), self._length(query)
        allowed = meeting(query.conditions, index, self._items)
        placement = self._placements.index(query.placement)
        to_show = showable(policy, placement, allowed)
        k = candidates_for_slate(policy, placement, user.state, length)
        if user.as_of is None:
            proposed = popular_candidates(index, co_visits, to_show, k)
        else:
            proposed = allowed_candidates(index, co_visits, user.state.vector[0], to_show, k)
        ranking = self._ranking(user.state, restrict(policy, allowed, proposed.rows), length, now_ms)
        return self._answer(query, user, replace(ranking, proposed=proposed))

    def rank(self, query: RankQuery, now_ms: int) -> ItemsAnswer:
        """The items that a query names, in the user's order; those that cannot be ranked come last, without a score."""
        live, rows = self._model.required_live, self._items.find(query.item_ids)
        user = self._user(query, self._slot(query), now_ms)
        allowed = np.zeros(len(live.index.columns.known), np.bool_)
        rankable = np.unique(rows[(rows >= 0) & live.index.known(rows)])
        allowed[rankable] = True
        policy = replace(
            self._model.policy,
            exclude_seen=False,
            allow_session_repeats=True,
            placements=(NAMED_ITEMS,),
            rules=NO_RULES,
        )
        restricted = restrict(policy, allowed, rankable)
        ranking = self._ranking(user.state, restricted, max(len(rankable), 1), now_ms)
        ranked = self._ranked_items(ranking.slates, 0, 0)
        names = {item.item_id for item in ranked}
        others = [AnsweredItem(item_id=item_id) for item_id in dict.fromkeys(query.item_ids) if item_id not in names]
        return ItemsAnswer([*ranked, *others], live.manifest.id, user.is_known, user.as_of)

    def preview(self, query: PreviewQuery, now_ms: int) -> PreviewAnswer:
        """The slates of all placements without and with some rules, which change nothing."""
        slot = self._users.slot(query.user_id)
        live = self._model.required_live
        state = self._users.blank(live) if slot is None else self._users.snapshots(live, [slot])
        tried = [numbered_if_known(rule, self._items) for rule in query.tried]
        before, after = (
            self._ids_by_placement(self._ranking(state, policy, self._layout.slate, now_ms).slates)
            for policy in (self._model.policy, self._model.policy_on_trial(tried))
        )
        return PreviewAnswer(
            user_id=query.user_id,
            is_known=slot is not None,
            release=live.manifest.id,
            before=before,
            after=after,
        )

    def _ids_by_placement(self, slates: RequestedSlates) -> dict[str, list[str]]:
        """Of the first user."""
        of_placements = zip(self._placements, slates.items[0].tolist(), strict=True)
        return {name: self._items.ids(row for row in slate if row >= 0) for name, slate in of_placements}

    def _slot(self, query: SlateQuery | RankQuery) -> int | None:
        return None if query.user_id is None else self._users.slot(query.user_id)

    def _user(self, query: SlateQuery | RankQuery, slot: int | None, now_ms: int) -> User:
        """Whom a query is about: the user in the slot, if there is one, after the events that only the query knows."""
        if query.events:
            return User(self._users.after_events(self._model.required_live, slot, query.events, now_ms), 0, True)
        if slot is None:
            return User(self._users.blank(self._model.required_live), 0, False)
        return User(self._users.snapshots(self._model.required_live, [slot]), 0, True)

    def _length(self, query: SlateQuery) -> int:
        """Of the slate that has the answer: the stream's, if that suffices, so that it is the same slate. All longer
        ones have the same length, so that pages fit together: what a placement shows may depend on its length."""
        return self._layout.slate if query.offset + query.limit <= self._layout.slate else MAX_ITEMS

    def _ranking(self, states: UserSnapshots, policy: Policy, length: int, now_ms: int) -> RankedUsers:
        """The ranking for users who all have done something, or of whom none has, with slates of this length.

        Who has done nothing gets what is popular, in that order: no list ranker learned from such users.
        """
        live, layout = self._model.required_live, self._layout._replace(slate=length)
        if states.now[0] <= 0:
            live, states = by_popularity(live), states._replace(now=np.full(len(states.now), now_ms, np.int64))
        return RankedUsers(live, self._model.co_visits, states, policy, layout)

    def _answer(self, query: SlateQuery, user: User, ranking: RankedUsers) -> ItemsAnswer:
        placement = self._placements.index(query.placement)
        items = self._ranked_items(ranking.slates, user.row, placement)
        selected = items[query.offset : query.offset + query.limit]
        if query.explain:
            selected = self._explanations.with_reasons(selected, ranking.explained(user.row), placement)
        return ItemsAnswer(selected, self._model.required_live.manifest.id, user.is_known, user.as_of)

    def _ranked_items(self, slates: RequestedSlates, row: int, placement: int) -> list[AnsweredItem]:
        items: Rows = slates.items[row, placement]
        scores: Floats = slates.scores[row, placement]
        columns = zip(items.tolist(), scores.tolist(), slates.proposed_by[row, placement].tolist(), strict=True)
        return [answered_item(self._items.id(item), score, source) for item, score, source in columns if item >= 0]
