"""Session kNN, learned event by event: what users chose in similar sessions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.co_visit.scored_items import ScoredItems
from models.data.event_log import NONE
from models.data.history import Histories, ItemHistory
from models.knn.matching import Matches, Query, Scores, find_matches, most_similar, newest_items, owner_ends
from models.knn.rule import SessionKnnRule
from models.knn.visit_log import CAPACITY, Numbers, VisitLog
from models.knn.votes import Votes


class SessionKnn:
    """The rule of `SessionKnnSeedModel`, of which it is the online form: it knows every event before the point."""

    name = "session_knn"

    def __init__(self, rule: SessionKnnRule | None = None, capacity: int = CAPACITY) -> None:
        self.rule = rule or SessionKnnRule()
        self._log = VisitLog(capacity)
        self._histories = Histories(self.rule.history)
        self._newest: dict[int, int] = {}
        """User → number of the newest visit."""
        self._session: dict[int, int] = {}
        """User → number of the current session."""
        self._sessions = 0
        self._sessions_of_item: dict[int, int] = {}
        """Sessions of two visits or more, by item."""
        self._votes = Votes()

    def learn(self, user: int, item: int, ts: int, session: int = NONE) -> None:
        """Add one event to the user's session, `ts` in UTC milliseconds."""
        history = self._histories.get(user)
        history.enter(NONE, ts, session)
        if item == NONE:
            return
        before = self._newest[user] if history.session_length else -1
        if before == -1:
            self._session[user] = self._sessions
            self._sessions += 1
        else:
            self._count_session(item, history)
        history.enter(item, ts, session)
        self._newest[user] = self._log.append(item, self._session[user], ts, before)

    def scored(self, user: int) -> ScoredItems:
        """Items by their votes."""
        rule, log = self.rule, self._log
        matches = find_matches(log, self._query(user), rule.sampled)
        aged = matches.similarity * 0.5 ** ((log.newest_ts - self._end_ts(matches)) / rule.half_life_ms)
        matches = most_similar(matches._replace(similarity=aged), rule.neighbours)
        weights = np.exp(-np.arange(rule.reach + 1) / rule.distance)
        return self._votes.count(log, matches, (weights, weights))

    def _query(self, user: int) -> Query:
        history = self._histories.get(user)
        item, age = newest_items(history, self.rule.recent)
        weight = self._squared_idf(item) * np.exp(-age / self.rule.recency)
        return Query(item, weight, self._session[user] if history.session_length else -1)

    def _squared_idf(self, item: NDArray[np.int32]) -> Scores:
        sessions = np.array([self._sessions_of_item.get(number, 1) for number in item.tolist()])
        squared: Scores = np.log1p(self._sessions / sessions) ** 2
        return squared

    def _end_ts(self, matches: Matches) -> Numbers:
        columns = self._log.columns
        return columns.ts[owner_ends(columns, matches.visit) % len(columns.ts)]

    def _count_session(self, item: int, history: ItemHistory) -> None:
        """Count the session of an item that follows others; with its second event a session begins to count."""
        items = history.session_items()
        for counted in [*(items if history.session_length == 1 else ()), *({item} - items)]:
            self._sessions_of_item[counted] = self._sessions_of_item.get(counted, 0) + 1
