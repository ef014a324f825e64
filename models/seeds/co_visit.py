"""The co-visit seed model: items that users visited close to the user's newest items."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix

from anabranch.co_visit.table import CoVisitTable
from anabranch.co_visit.text_prior import TextPrior
from anabranch.co_visit_rule import CoVisitRule
from anabranch.co_visit_scoring import CoVisitScoring
from models.co_visit.model import CoVisitModel
from models.co_visit.text_neighbours import text_neighbours
from models.data.event_log import EventLog
from models.data.sequences import Contexts
from models.seeds.seed_model import TopK, Vectors, top_k_items
from models.stages import Done


@dataclass
class CoVisitSeedModel:
    """Scores an item by its co-visits with the recent items: see `CoVisitScoring`."""

    rule: CoVisitRule = field(default_factory=CoVisitRule)
    scoring: CoVisitScoring = field(default_factory=CoVisitScoring)
    table: CoVisitTable | None = None
    """What it learned; not the one that serves, which has no pairs of few users."""
    width: int = 64
    """Neighbours per item."""
    name: str = "co_visit"
    texts: TextPrior | None = None
    """Neighbours by text of the items that it is fitted to; None: they are found from the text vectors."""

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Count the log's co-visits, with the text prior of the rule, and learn from them."""
        texts = text_neighbours(self.rule, text_vectors) if self.texts is None else self.texts
        model = CoVisitModel(self.rule, self.scoring, texts)
        self.learn_from(model.fit(log, lambda events: done(events / len(log))), len(text_vectors))

    def learn_from(self, counted: CoVisitModel, items: int) -> None:
        """Score the items 0 to `items` - 1 by counts that are made already, pairs of a single user among them."""
        self.table = counted.private_table(self.width)
        self._shares = _share_matrix(self.table, items)

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """See `SeedModel`. Confidence: the share of the recent items that have neighbours."""
        recent = contexts.recent[:, : self.scoring.recent]
        present = recent >= 0
        rows, back = np.nonzero(present)
        weight = np.array(self.scoring.weights, np.float32)[back]
        shape = (len(contexts), self._shares.shape[0])
        visited = csr_matrix((weight, (rows, recent[present])), shape)
        scores = np.asarray((visited @ self._shares + self.scoring.own_share * visited).todense(), np.float32)
        has_neighbours = np.diff(self._shares.indptr) > 0
        confidence = (present & has_neighbours[recent]).mean(axis=1)
        return TopK(top_k_items(np.where(scores > 0, scores, -np.inf), k), confidence.astype(np.float32))


def _share_matrix(table: CoVisitTable, items: int) -> csr_matrix:
    """Shares [items, items]; row: visited item, column: neighbour."""
    present = table.neighbours >= 0
    rows = np.broadcast_to(table.item[:, None], present.shape)[present]
    return csr_matrix((table.share[present], (rows, table.neighbours[present])), (items, items))
