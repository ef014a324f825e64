"""The ALS seed model: what users choose over months, regardless of order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from models.data.event_log import EventLog
from models.data.sequences import Contexts
from models.seeds.seed_model import TopK, Vectors, top_k_items
from models.stages import Done

HALF_CONFIDENCE_ITEMS = 8
"""Number of recent items at which the confidence is one half."""


@dataclass
class AlsSeedModel:
    """Matrix factorisation of item counts.

    Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008. At a prediction point the
    user vector is computed from the recent items, so that it does not contain the user's later events.
    """

    random_seed: int = 0
    threads: int = 2
    factors: int = 64
    iterations: int = 8
    regularisation: float = 1.0
    confidence_per_count: float = 4.0
    """The paper's alpha."""
    name: str = "als"
    _model: AlternatingLeastSquares = field(init=False, repr=False)
    _has_events: NDArray[np.bool_] = field(init=False, repr=False)

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Factorise the matrix of users by items; a repeated item counts 1 + log(count)."""
        shape = (len(log.user_ids), len(text_vectors))
        counts = csr_matrix((np.ones(len(log), np.float32), (log.user, log.item)), shape)
        counts.data = 1 + np.log(counts.data)
        self._has_events = np.bincount(log.item, minlength=shape[1]) > 0
        with threadpool_limits(1, "blas"):  # otherwise implicit's threads wait for those of the BLAS
            self._model = self._unfitted()
            self._model.fit(counts, show_progress=False, callback=lambda *_: done(1 / self.iterations))

    def _unfitted(self) -> AlternatingLeastSquares:
        return AlternatingLeastSquares(
            factors=self.factors,
            iterations=self.iterations,
            regularization=self.regularisation,
            alpha=self.confidence_per_count,
            random_state=self.random_seed,
            num_threads=self.threads,
        )

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """See `SeedModel`. Confidence: n / (n + `HALF_CONFIDENCE_ITEMS`) for n recent items."""
        present = contexts.recent >= 0
        rows = np.nonzero(present)[0]
        shape = (len(contexts), len(self._has_events))
        counts = csr_matrix((np.ones(len(rows), np.float32), (rows, contexts.recent[present])), shape)
        users = self._model.recalculate_user(np.arange(len(contexts)), counts)  # [B, factors]
        scores = np.where(self._has_events, users @ self._model.item_factors.T, -np.inf)
        n = present.sum(axis=1)
        return TopK(top_k_items(scores, k), (n / (n + HALF_CONFIDENCE_ITEMS)).astype(np.float32))
