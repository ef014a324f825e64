"""The session neighbours seed: what people chose in past sessions that were like this one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from models.co_visit.rule import WEEK_MS
from models.data.event_log import EventLog
from models.data.sequences import Contexts, Positions
from models.data.sessions import Sessions
from models.seeds.seed_model import TopK, Vectors
from models.stages import Done

AT_ONCE = 128
"""Moments whose neighbours are in memory together."""
REACH = 5
"""Distances from the shared item within which a neighbour's items count at all: there they have faded to 1/150."""

DOUBT = 5
"""Neighbours assumed of every moment that vote for nothing."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Neighbours:
    """n pairs of a moment and a session like it, by moment."""

    moment: Positions  # [n]
    row: Positions  # [n] of the sessions' events: the session's last about the newest item that both have
    similarity: Scores  # [n]

    def take(self, rows: Positions) -> Neighbours:
        """The chosen pairs."""
        return Neighbours(self.moment[rows], self.row[rows], self.similarity[rows])


@dataclass
class SessionKnnSeedModel:
    """Nearest neighbours among the sessions that had ended by the moment.

    Garg et al., Sequence and Time Aware Neighborhood for Session-based Recommendations: STAN, SIGIR 2019: a session
    counts by the items it shares with the moment, the newest of them most, and by its age; its items count by their
    distance to the shared one. From Ludewig and Jannach, Evaluation of session-based recommendation algorithms,
    UMUAI 2018: only an item's newest sessions are looked at. Items are weighted as in the cosine of tf-idf vectors.
    """

    recent: int = 10
    """Newest items of a moment that are compared."""
    recency: float = 2.0
    """Places after which an item of the moment counts 1/e. More where the order within a session means little."""
    half_life_ms: int = 8 * WEEK_MS
    """Age at which a session counts half."""
    distance: float = 3.0
    """Places from the shared item at which a session's item counts 1/e. More where the order means little."""
    sampled: int = 500
    """Newest sessions of an item that are looked at."""
    neighbours: int = 200
    """Sessions that make the list."""
    name: str = "session_knn"

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Index the log's sessions by item; the text vectors are not read."""
        self._sessions = sessions = Sessions.from_log(log)
        length = np.diff(sessions.start)
        self._session = np.repeat(np.arange(len(sessions)), length)  # [N]
        visit = sessions.item * np.int64(len(sessions)) + self._session  # [N] by item, then by the session's end
        order = np.argsort(visit, kind="stable")
        last = np.diff(visit[order], append=-1) != 0  # a session stands once with an item, by its last visit
        last &= length[self._session[order]] > 1  # one event alone does not tell what goes with it
        self._row = order[last]  # [P]
        self._visit = visit[self._row]  # [P]
        found_in = np.bincount(sessions.item[self._row], minlength=len(text_vectors))
        self._weight = np.log1p(len(sessions) / np.maximum(found_in, 1)) ** 2  # [C]
        done(1.0)

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """Confidence: the share of the n neighbours' votes that the list has, as share · n / (n + DOUBT).

        Raises `ValueError` for moments without time stamps: a moment's own session could not be told from the past.
        """
        starts = range(0, max(len(contexts), 1), AT_ONCE)
        parts = [self._teach(contexts.part(start, start + AT_ONCE), k) for start in starts]
        return TopK(np.concatenate([part.items for part in parts]), np.concatenate([part.confidence for part in parts]))

    def _teach(self, contexts: Contexts, k: int) -> TopK:
        neighbours = self._nearest(contexts)
        votes = self._votes(neighbours, len(contexts))
        moment = np.repeat(np.arange(len(contexts)), np.diff(votes.indptr))
        best = _best(moment, votes.data, k)
        items = np.full((len(contexts), k), -1, np.int32)
        items[moment[best], _places(moment[best])] = votes.indices[best]
        listed = np.bincount(moment[best], votes.data[best], minlength=len(contexts))
        cast = np.asarray(votes.sum(axis=1)).ravel()
        n = np.bincount(neighbours.moment, minlength=len(contexts))
        confidence = listed / np.where(cast > 0, cast, 1) * n / (n + DOUBT)
        return TopK(items, confidence.astype(np.float32))

    def _nearest(self, contexts: Contexts) -> Neighbours:
        """The sessions most like each moment."""
        ts, end_ts = contexts.times()[:, 0], self._sessions.end_ts
        shared = self._shared(contexts, ts)
        session = self._session[shared.row]
        pairs = shared.moment * np.int64(len(end_ts)) + session
        order = np.argsort(pairs, kind="stable")  # keeps the newest item of a pair first
        first = np.flatnonzero(np.diff(pairs[order], prepend=-1))
        found = shared.take(order[first])
        if len(first):
            age = ts[found.moment] - end_ts[session[order[first]]]
            alike = np.add.reduceat(shared.similarity[order], first)
            found = replace(found, similarity=alike * 0.5 ** (age / self.half_life_ms))
        return found.take(_best(found.moment, found.similarity, self.neighbours))

    def _shared(self, contexts: Contexts, ts: NDArray[np.int64]) -> Neighbours:
        """Each item that a moment, at `ts` [B], has in common with each session that had ended, the newest first.

        The moment's own session ends with the moment or after it, so it is not among them.
        """
        ended = np.searchsorted(self._sessions.end_ts, ts)  # [B], sessions numbered below had ended by then
        moment, place = np.nonzero(_newest_visits(contexts.recent[:, : self.recent]))
        item = contexts.recent[moment, place]
        weight = self._weight[item] * np.exp(-place / self.recency)
        by, at = self._visits_of(item, ended[moment])
        return Neighbours(moment[by], self._row[at], weight[by])

    def _visits_of(self, item: NDArray[np.int32], ended: Positions) -> tuple[Positions, Positions]:
        """Each item's [m] newest visits in sessions numbered below `ended` [m]: which of the m, and which visit."""
        sessions = np.int64(len(self._sessions))
        end = np.searchsorted(self._visit, item * sessions + ended)
        start = np.searchsorted(self._visit, item * sessions)
        return _ranges(np.maximum(start, end - self.sampled), end)

    def _votes(self, neighbours: Neighbours, moments: int) -> csr_matrix:
        """What the neighbours hold near the shared item, by moment and item [B, C]."""
        sessions, row, reach = self._sessions, neighbours.row, int(REACH * self.distance)
        session = self._session[row]
        start, end = sessions.start[session], sessions.start[session + 1]
        by, at = _ranges(np.maximum(start, row - reach), np.minimum(end, row + reach + 1))
        weight = neighbours.similarity[by] * np.exp(-np.abs(at - row[by]) / self.distance)
        bounds = np.searchsorted(neighbours.moment[by], np.arange(moments + 1))
        votes = csr_matrix((weight, sessions.item[at], bounds), (moments, len(self._weight)))
        votes.sum_duplicates()
        return votes


def _newest_visits(recent: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which of the items [B, R], newest first, stand there for the first time."""
    same = recent[:, :, None] == recent[:, None, :]
    repeated: NDArray[np.bool_] = np.tril(same, -1).any(axis=2)
    return (recent >= 0) & ~repeated


def _ranges(start: Positions, end: Positions) -> tuple[Positions, Positions]:
    """All numbers from `start` to `end` of each of m ranges, end to end, and before them which range each is of."""
    length = np.maximum(end - start, 0)
    of = np.repeat(np.arange(len(start)), length)
    return of, np.arange(len(of)) - np.repeat(np.cumsum(length) - length - start, length)


def _best(group: Positions, score: Scores, k: int) -> Positions:
    """Where the k greatest scores of each group stand, by group, best first; of equal ones the first. Groups ascend."""
    order = np.lexsort((-score, group))
    return order[_places(group) < k]


def _places(group: Positions) -> Positions:
    """Each member's place in its group, from 0; groups ascend."""
    first = np.flatnonzero(np.diff(group, prepend=-1))
    return np.arange(len(group)) - np.repeat(first, np.diff(np.r_[first, len(group)]))
