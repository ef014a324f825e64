"""Training examples of the purchase head: the features of ranking candidates, and whether the user bought them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from anabranch.errors import AnabranchError


class NoPurchaseHead(AnabranchError):
    """The log has too little to train a purchase head on; the message says what is missing."""


@dataclass(frozen=True)
class PurchaseExampleConfig:
    """Which label an example has, and how many prediction points are sampled."""

    horizon_days: float = 7.0
    """A candidate is a positive if its user buys it within this many days."""
    prediction_points: int = 10_000
    """Expected number of sampled prediction points; all candidates of each are examples."""
    events: int = 50_000
    """Prediction points are sampled from this many of the newest events whose horizon ends within the log."""


@dataclass(frozen=True)
class PurchaseExamples:
    """N candidates of n prediction points, in time order."""

    features: NDArray[np.float32]  # [N, F]
    bought: NDArray[np.bool_]  # [N]
    prediction_point: NDArray[np.int64]  # [N], ascending, from 0 to n - 1
    on_slate: NDArray[np.bool_]  # [N], whether the release serves the candidate: only then its probability is published

    def __len__(self) -> int:
        return len(self.bought)

    def split(self, *shares: float) -> list[PurchaseExamples]:
        """Split by time after each of the `shares` (0 to 1, ascending) of the prediction points, keeping each whole."""
        count = int(self.prediction_point[-1]) + 1 if len(self) else 0
        cuts = np.searchsorted(self.prediction_point, [int(share * count) for share in shares]).tolist()
        bounds = [0, *cuts, len(self)]
        return [self._part(slice(*bound)) for bound in pairwise(bounds)]

    def served(self) -> PurchaseExamples:
        """The candidates on slates."""
        return self._part(self.on_slate)

    def _part(self, rows: slice | NDArray[np.bool_]) -> PurchaseExamples:
        prediction_point = self.prediction_point[rows]
        return PurchaseExamples(
            self.features[rows], self.bought[rows], prediction_point - prediction_point[:1], self.on_slate[rows]
        )
