"""The ALS seed: who buys what over months, whatever the order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from models.data.event_log import EventLog
from models.data.sequences import Contexts
from models.seeds.seed_model import TopK, Vectors, top
from models.stages import Done


@dataclass
class AlsSeedModel:
    """Matrix factorisation of counts.

    Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008. Asked about a
    moment, it folds the recent items in, so that it does not answer with what the user did later.
    """

    random_seed: int = 0
    threads: int = 2
    factors: int = 64
    iterations: int = 8
    regularisation: float = 1.0
    confidence_in_a_count: float = 4.0
    name: str = "als"
    _model: AlternatingLeastSquares = field(init=False, repr=False)
    _known: NDArray[np.bool_] = field(init=False, repr=False)

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Factorise users by items; a repeat counts by its logarithm."""
        shape = (len(log.user_ids), len(text_vectors))
        counts = csr_matrix((np.ones(len(log), np.float32), (log.user, log.item)), shape)
        counts.data = 1 + np.log(counts.data)
        self._known = np.bincount(log.item, minlength=shape[1]) > 0
        with threadpool_limits(1, "blas"):  # its own threads would wait for those of the BLAS
            self._model = self._unfitted()
            self._model.fit(counts, show_progress=False, callback=lambda *_: done(1 / self.iterations))

    def _unfitted(self) -> AlternatingLeastSquares:
        return AlternatingLeastSquares(
            factors=self.factors,
            iterations=self.iterations,
            regularization=self.regularisation,
            alpha=self.confidence_in_a_count,
            random_state=self.random_seed,
            num_threads=self.threads,
        )

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """Confidence: the evidence n of a moment's recent items, as n / (n + 8)."""
        named = contexts.recent >= 0
        rows = np.nonzero(named)[0]
        shape = (len(contexts), len(self._known))
        counts = csr_matrix((np.ones(len(rows), np.float32), (rows, contexts.recent[named])), shape)
        users = self._model.recalculate_user(np.arange(len(contexts)), counts)  # [B, factors]
        scores = np.where(self._known, users @ self._model.item_factors.T, -np.inf)
        evidence = named.sum(axis=1)
        return TopK(top(scores, k), (evidence / (evidence + 8)).astype(np.float32))
