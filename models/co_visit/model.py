"""The co-visit model: co-visit counts as a seed model, a table of neighbours, and a baseline of the gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import NDArray

from anabranch.co_visit.counts import CoVisitCounts, Visits
from anabranch.co_visit.shares import summed_shares, table_rows
from anabranch.co_visit.table import CoVisitTable
from anabranch.co_visit.text_prior import NO_TEXTS, TextPrior
from anabranch.co_visit_rule import CoVisitRule
from anabranch.co_visit_scoring import CoVisitScoring
from models.co_visit.scored_items import ScoredItems
from models.data.event_log import NONE, EventLog
from models.data.unusual_users import unusual_users

PROGRESS_EVERY = 1000


class CoVisitModel:
    """Pair counts by item number."""

    name = "co_visit"

    def __init__(
        self,
        rule: CoVisitRule | None = None,
        scoring: CoVisitScoring | None = None,
        texts: TextPrior = NO_TEXTS,
    ) -> None:
        """With the items' neighbours by text, see `text_neighbours`, the rule's `text_prior` is added."""
        self.rule = rule or CoVisitRule()
        self.scoring = scoring or CoVisitScoring()
        self._texts = texts if self.rule.text_prior else NO_TEXTS
        self._counts = CoVisitCounts(self.rule)
        self.unusual_users: frozenset[int] = frozenset()
        """Users who leave no trace in the counts. They have slates like others."""
        self._scratch: NDArray[np.float64] = np.zeros(1024)
        """Buffer in which scores are summed; all zeros between calls."""

    def fit(self, log: EventLog, done: Callable[[int], None] = lambda n: None) -> Self:
        """Learn a whole log, but for its unusual users; returns the model. `done(n)` is called after every n events."""
        self.unusual_users = unusual_users(log)
        counted = ~np.isin(log.user, list(self.unusual_users))
        visits = Visits(log.user.astype(np.int64), log.item.astype(np.int64), log.ts, log.session, counted)
        for start in range(0, len(log), PROGRESS_EVERY):
            self._counts.learn(visits.between(start, start + PROGRESS_EVERY))
            done(min(PROGRESS_EVERY, len(log) - start))
        return self

    def learn(self, user: int, item: int, ts: int, session: int = NONE) -> None:
        """Count one event, `ts` in UTC milliseconds. A search (item NONE) only updates the session."""
        is_counted = user not in self.unusual_users
        self._counts.learn(Visits(*(np.array([value]) for value in (user, item, ts, session, is_counted))))

    def scored(self, user: int) -> ScoredItems:
        """Items by the rule of `CoVisitScoring`.

        Pairs of fewer than the rule's `min_users` do not count, as in the table: a baseline must not know what may not
        be served.
        """
        items = max(len(self._counts.memory.items.users), len(self._texts.item))
        if items > len(self._scratch):
            self._scratch = np.zeros(2 * items)
        return ScoredItems(*summed_shares(self._counts, user, self.scoring, self._texts, self._scratch))

    def table(self, width: int = 20) -> CoVisitTable:
        """The strongest `width` neighbours of every item seen, by item number. Without events it has no rows."""
        return self._table(width, self.rule.min_users)

    def private_table(self, width: int) -> CoVisitTable:
        """The same with pairs of a single user, whatever the rule's `min_users`: it must not be published."""
        return self._table(width, min_users=1)

    def _table(self, width: int, min_users: int) -> CoVisitTable:
        return table_rows(self._counts, self._counts.visited_items, width, min_users, self._texts)
