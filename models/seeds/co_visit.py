"""The co-visit table as a teacher: what others took along with the user's newest items."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix

from models.co_visit.model import CoVisitModel
from models.co_visit.rule import CoVisitRule
from models.co_visit.table import CoVisitTable
from models.data.event_log import EventLog
from models.data.sequences import Contexts
from models.seeds.seed_model import TopK, Vectors, top
from models.stages import Done


@dataclass
class CoVisitSeedModel:
    """Sum of the co-visit shares of the recent items."""

    rule: CoVisitRule = field(default_factory=CoVisitRule)
    table: CoVisitTable | None = None
    recent: int = 10
    width: int = 64
    name: str = "co_visit"

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Count the log's co-visits, and what the rule assumes of texts."""
        co_visit = CoVisitModel.fit(log, self.rule, lambda events: done(events / len(log)))
        self.table = co_visit.table(self.width, text_vectors)
        self._shares = _matrix(self.table, len(text_vectors))

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """Confidence: the share of the recent items that have neighbours at all."""
        recent = contexts.recent[:, : self.recent]
        named = recent >= 0
        rows = np.nonzero(named)[0]
        shape = (len(contexts), self._shares.shape[0])
        taken = csr_matrix((np.ones(len(rows), np.float32), (rows, recent[named])), shape)
        scores = np.asarray((taken @ self._shares).todense(), np.float32)
        has_neighbours = np.diff(self._shares.indptr) > 0
        confidence = (named & has_neighbours[recent]).mean(axis=1)
        return TopK(top(np.where(scores > 0, scores, -np.inf), k), confidence.astype(np.float32))


def _matrix(table: CoVisitTable, items: int) -> csr_matrix:
    """Shares [items, items]; row: from, column: to."""
    present = table.neighbours >= 0
    rows = np.broadcast_to(table.item[:, None], present.shape)[present]
    return csr_matrix((table.share[present], (rows, table.neighbours[present])), (items, items))
