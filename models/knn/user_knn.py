"""User kNN, learned event by event: what similar users chose, and what the user chose before."""

from __future__ import annotations

import numpy as np

from models.co_visit.scored_items import ScoredItems
from models.data.event_log import NONE
from models.data.history import Histories
from models.knn.matching import Matches, Query, find_matches, most_similar, newest_items
from models.knn.rule import UserKnnRule
from models.knn.visit_log import CAPACITY, Numbers, VisitLog, grown
from models.knn.votes import Votes


class UserKnn:
    """Nearest neighbours among users, with the user's own visits as one of them.

    Hu, He, Gao and Zhang, Modeling Personalized Item Frequency Information for Next-basket Recommendation, SIGIR 2020
    (TIFU-kNN): the user's decayed item frequencies are mixed with those of similar users. Here similarity is the idf of
    the shared items, and only the newest visits of an item are searched.
    """

    name = "user_knn"

    def __init__(self, rule: UserKnnRule | None = None, capacity: int = CAPACITY) -> None:
        self.rule = rule or UserKnnRule()
        self._log = VisitLog(capacity)
        self._histories = Histories(self.rule.recent)
        self._newest: Numbers = np.full(1024, -1, np.int64)
        """Number of the newest visit, by user number."""
        self._users = 0
        self._users_of_item: dict[int, int] = {}
        """Users who had not visited the item in their history when they did."""
        self._votes = Votes()

    def learn(self, user: int, item: int, ts: int, session: int = NONE) -> None:
        """Add one event of a user, `ts` in UTC milliseconds."""
        if item == NONE:
            return
        history = self._histories.get(user)
        self._users += not history.items
        if item not in history.items:
            self._users_of_item[item] = self._users_of_item.get(item, 0) + 1
        history.enter(item, ts, session)
        self._newest = grown(self._newest, user + 1)
        self._newest[user] = self._log.append(item, user, ts, int(self._newest[user]))

    def scored(self, user: int) -> ScoredItems:
        """Items by their votes."""
        rule, log = self.rule, self._log
        item, age = newest_items(self._histories.get(user), rule.recent)
        if not len(item):
            return ScoredItems(item, np.empty(0))
        users = np.array([self._users_of_item[number] for number in item.tolist()])
        weight = np.log1p(self._users / users) ** 2 * np.exp(-age / rule.recency)
        matches = most_similar(find_matches(log, Query(item, weight, user), rule.sampled), rule.neighbours)
        weights = np.exp(-np.arange(rule.votes) / rule.recency)
        return self._votes.count(log, self._with_own(user, matches), (weights, np.empty(0)))

    def _with_own(self, user: int, matches: Matches) -> Matches:
        """The newest visit of every similar user, and of the user."""
        users = self._log.columns.owner[matches.visit % len(self._log.columns.owner)]
        own = self.rule.own * matches.similarity.sum() if len(users) else 1.0
        return Matches(self._newest[np.append(users, user)], np.append(matches.similarity, own))
