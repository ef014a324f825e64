"""The session-kNN seed model: what users chose in similar past sessions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from models.data.event_log import EventLog
from models.data.sequences import Contexts, Positions
from models.data.sessions import Sessions
from models.knn.rule import SessionKnnRule
from models.seeds.seed_model import TopK, Vectors
from models.stages import Done

BATCH = 128
"""Prediction points whose matches are in memory together."""
PRIOR_MATCHES = 5
"""Pseudo-count of matching sessions that predict nothing; it lowers the confidence if there are few matches."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class SessionMatches:
    """n pairs of a prediction point and a similar past session, sorted by prediction point."""

    point: Positions  # [n]
    row: Positions  # [n], event of the session: its last one with the newest item that both have
    similarity: Scores  # [n]

    def take(self, rows: Positions) -> SessionMatches:
        """The chosen pairs."""
        return SessionMatches(self.point[rows], self.row[rows], self.similarity[rows])


@dataclass
class SessionKnnSeedModel:
    """Nearest neighbours among the sessions that ended before the prediction point.

    Garg et al., Sequence and Time Aware Neighborhood for Session-based Recommendations: STAN, SIGIR 2019: a session's
    weight comes from the items it shares with the prediction point, most from the newest, and from its age; an item's
    weight comes from its distance to the shared item. Ludewig and Jannach, Evaluation of session-based recommendation
    algorithms, UMUAI 2018: only an item's newest sessions are searched. Items are weighted as in tf-idf cosines.
    """

    rule: SessionKnnRule = field(default_factory=SessionKnnRule)
    name: str = "session_knn"

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Index the log's sessions by item. The text vectors only give the size of the catalogue."""
        self._sessions = sessions = Sessions.from_log(log)
        length = np.diff(sessions.start)
        self._session = np.repeat(np.arange(len(sessions)), length)  # [N]
        visit = sessions.item * np.int64(len(sessions)) + self._session  # [N], sort key: item, then end of the session
        order = np.argsort(visit, kind="stable")
        indexed = np.diff(visit[order], append=-1) != 0  # the last visit of each session and item
        indexed &= length[self._session[order]] > 1  # a session with one event predicts nothing
        self._row = order[indexed]  # [P]
        self._visit = visit[self._row]  # [P]
        session_count = np.bincount(sessions.item[self._row], minlength=len(text_vectors))
        self._weight = np.log1p(len(sessions) / np.maximum(session_count, 1)) ** 2  # [C], squared idf
        done(1.0)

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """See `SeedModel`. Confidence: the list's share of the votes times n / (n + `PRIOR_MATCHES`) for n matches.

        Raises `ValueError` for contexts without time stamps, because the user's own session could not be excluded.
        """
        starts = range(0, max(len(contexts), 1), BATCH)
        parts = [self._predict(contexts.part(start, start + BATCH), k) for start in starts]
        return TopK(np.concatenate([part.items for part in parts]), np.concatenate([part.confidence for part in parts]))

    def _predict(self, contexts: Contexts, k: int) -> TopK:
        matches = self._nearest(contexts)
        votes = self._votes(matches, len(contexts))
        point = np.repeat(np.arange(len(contexts)), np.diff(votes.indptr))
        best = _top_k_per_group(point, votes.data, k)
        items = np.full((len(contexts), k), -1, np.int32)
        items[point[best], _index_in_group(point[best])] = votes.indices[best]
        listed = np.bincount(point[best], votes.data[best], minlength=len(contexts))
        total = np.asarray(votes.sum(axis=1)).ravel()
        n = np.bincount(matches.point, minlength=len(contexts))
        confidence = listed / np.where(total > 0, total, 1) * n / (n + PRIOR_MATCHES)
        return TopK(items, confidence.astype(np.float32))

    def _nearest(self, contexts: Contexts) -> SessionMatches:
        """The most similar sessions of each prediction point."""
        ts, end_ts = contexts.times()[:, 0], self._sessions.end_ts
        shared = self._shared_items(contexts, ts)
        session = self._session[shared.row]
        pairs = shared.point * np.int64(len(end_ts)) + session
        order = np.argsort(pairs, kind="stable")  # the newest item of a pair stays first
        first = np.flatnonzero(np.diff(pairs[order], prepend=-1))
        matches = shared.take(order[first])
        if len(first):
            age = ts[matches.point] - end_ts[session[order[first]]]
            similarity = np.add.reduceat(shared.similarity[order], first)
            matches = replace(matches, similarity=similarity * 0.5 ** (age / self.rule.half_life_ms))
        return matches.take(_top_k_per_group(matches.point, matches.similarity, self.rule.neighbours))

    def _shared_items(self, contexts: Contexts, ts: NDArray[np.int64]) -> SessionMatches:
        """One entry per item that a prediction point at `ts` [B] shares with a session that had ended, newest first.

        The user's own session is not among them, because it ends at the prediction point or later.
        """
        ended = np.searchsorted(self._sessions.end_ts, ts)  # [B], sessions with a lower number had ended by then
        point, age = np.nonzero(_first_occurrences(contexts.recent[:, : self.rule.recent]))
        item = contexts.recent[point, age]
        weight = self._weight[item] * np.exp(-age / self.rule.recency)
        query, visit = self._newest_visits(item, ended[point])
        return SessionMatches(point[query], self._row[visit], weight[query])

    def _newest_visits(self, item: NDArray[np.int32], ended: Positions) -> tuple[Positions, Positions]:
        """The newest visits of each item [m] in sessions numbered below `ended` [m]: index into the m, and visit."""
        sessions = np.int64(len(self._sessions))
        end = np.searchsorted(self._visit, item * sessions + ended)
        start = np.searchsorted(self._visit, item * sessions)
        return _ranges(np.maximum(start, end - self.rule.sampled), end)

    def _votes(self, matches: SessionMatches, points: int) -> csr_matrix:
        """Votes [B, C] of the matching sessions for the items near the shared one."""
        sessions, row, reach = self._sessions, matches.row, self.rule.reach
        session = self._session[row]
        start, end = sessions.start[session], sessions.start[session + 1]
        match, voted = _ranges(np.maximum(start, row - reach), np.minimum(end, row + reach + 1))
        weight = matches.similarity[match] * np.exp(-np.abs(voted - row[match]) / self.rule.distance)
        bounds = np.searchsorted(matches.point[match], np.arange(points + 1))
        votes = csr_matrix((weight, sessions.item[voted], bounds), (points, len(self._weight)))
        votes.sum_duplicates()
        return votes


def _first_occurrences(recent: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Mask [B, R] of the items that do not occur further left (newer) in their row; padding is False."""
    same = recent[:, :, None] == recent[:, None, :]
    repeated: NDArray[np.bool_] = np.tril(same, -1).any(axis=2)
    return (recent >= 0) & ~repeated


def _ranges(start: Positions, end: Positions) -> tuple[Positions, Positions]:
    """The numbers of m ranges, concatenated: the index of the range of each number, and the numbers."""
    length = np.maximum(end - start, 0)
    index = np.repeat(np.arange(len(start)), length)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(length) - length - start, length)


def _top_k_per_group(group: Positions, score: Scores, k: int) -> Positions:
    """Rows of the k highest scores of each group, by group, best first; of equal scores the first. Groups ascend."""
    order = np.lexsort((-score, group))
    return order[_index_in_group(group) < k]


def _index_in_group(group: Positions) -> Positions:
    """Index of each row within its group, from 0. Groups ascend."""
    first = np.flatnonzero(np.diff(group, prepend=-1))
    return np.arange(len(group)) - np.repeat(first, np.diff(np.r_[first, len(group)]))
