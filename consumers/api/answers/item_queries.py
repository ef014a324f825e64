"""Answers about items: the most similar ones, those taken together, and the popular ones."""

from __future__ import annotations

from http import HTTPStatus

import numpy as np

from anabranch.http.messages.serving import AnsweredItem, ItemConditions, Source
from anabranch.http.problems import HttpProblem
from anabranch.ranking.pipeline.restriction import nearest_rows, popular_rows
from anabranch.ranking.retrieval.candidate_columns import (
    BY_CO_VISITS,
    BY_INDEX,
    BY_NEWNESS,
    BY_OWN_EVENTS,
    BY_POPULARITY,
    BY_REQUEST,
    BY_RULES,
)
from anabranch.ranking.retrieval.item_attributes import with_attributes
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.types import Floats, Mask, Rows
from anabranch.ranking.vocabulary import ItemVocabulary
from consumers.api.answers.queries import BoughtTogetherQuery, ItemsAnswer, SimilarQuery, TrendingQuery
from consumers.releases.serving_model import ServingModel

SOURCES: tuple[tuple[int, Source], ...] = (
    (BY_OWN_EVENTS, "own_events"),
    (BY_CO_VISITS, "co_visits"),
    (BY_POPULARITY, "popularity"),
    (BY_INDEX, "index"),
    (BY_NEWNESS, "new"),
    (BY_RULES, "rules"),
    (BY_REQUEST, "request"),
)
"""Bits of candidates and their names. An item of several is named by the first: the one that tells most."""


def answered_item(item_id: str, score: float, proposed_by: int) -> AnsweredItem:
    """An item of a slate, with the first of its sources."""
    source = next((name for bit, name in SOURCES if proposed_by & bit), None)
    return AnsweredItem(item_id=item_id, score=score, source=source)


def meeting(conditions: ItemConditions, index: ItemIndex, items: ItemVocabulary) -> Mask:
    """[N] which items of an index meet the conditions."""
    allowed = with_attributes(conditions, index.all_attributes)
    excluded = items.find(conditions.exclude)
    allowed[excluded[(excluded >= 0) & (excluded < len(allowed))]] = False
    return allowed


class ItemQueries:
    """Answers that do not depend on a user."""

    def __init__(self, model: ServingModel, items: ItemVocabulary) -> None:
        self._model = model
        self._items = items

    def similar(self, query: SimilarQuery) -> ItemsAnswer:
        """The items whose vectors are nearest to an item's, by cosine: vectors have length 1.

        Raises `HttpProblem` (404) for an item that is not in the index.
        """
        live, row = self._model.required_live, self._require_item(query.item_id)
        allowed = self._servable(query.conditions)
        if row < len(allowed):
            allowed[row] = False
        rows = np.flatnonzero(allowed).astype(np.int32)
        vector = live.index.columns.vectors[row]
        best = nearest_rows(live.index, vector, rows, query.limit)
        return self._answer(best, live.index.columns.vectors[best] @ vector, "index")

    def bought_together(self, query: BoughtTogetherQuery) -> ItemsAnswer:
        """The items of the most co-visits with an item, each with its share of them. None if nothing is known yet.

        Raises `HttpProblem` (404) for an item that is not in the index.
        """
        row, columns = self._require_item(query.item_id), self._model.co_visits.columns
        if row >= len(columns.rows):
            return self._answer(np.empty(0, np.int32), np.empty(0, np.float32), "co_visits")
        near, shares, allowed = columns.rows[row], columns.weights[row], self._servable(query.conditions)
        eligible = (near >= 0) & (near < len(allowed))
        eligible[eligible] = allowed[near[eligible]]
        return self._answer(near[eligible][: query.limit], shares[eligible][: query.limit], "co_visits")

    def trending(self, query: TrendingQuery) -> ItemsAnswer:
        """The items of the most events, newer ones counted more; each with its share of all events."""
        rows = np.flatnonzero(self._servable(query.conditions)).astype(np.int32)
        best = popular_rows(self._model.required_live.index, self._model.co_visits, rows, query.limit)
        return self._answer(best, np.exp(self._model.co_visits.columns.log_popularity[best]), "popularity")

    def _require_item(self, item_id: str) -> int:
        row = int(self._items.find([item_id])[0])
        if row < 0 or not self._model.required_live.index.known(np.array([row], np.int32))[0]:
            raise HttpProblem(HTTPStatus.NOT_FOUND, f"there is no item {item_id!r} in the index")
        return row

    def _servable(self, conditions: ItemConditions) -> Mask:
        """[N] which items may be shown: those on sale that meet the conditions and that no rule hides everywhere."""
        allowed = (
            meeting(conditions, self._model.required_live.index, self._items)
            & self._model.required_live.index.columns.servable
        )
        hidden = self._model.policy.rules.hidden_everywhere
        allowed[: len(hidden)] &= ~hidden
        return allowed

    def _answer(self, rows: Rows, scores: Floats, source: Source) -> ItemsAnswer:
        named = zip(self._items.ids(rows.tolist()), scores.tolist(), strict=True)
        items = [AnsweredItem(item_id=item_id, score=score, source=source) for item_id, score in named]
        return ItemsAnswer(items=items, release=self._model.required_live.manifest.id, is_known=True)
