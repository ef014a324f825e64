"""Seed models as teachers: each is asked only about events that it was not fitted to.

A seed model has seen the next item of the events that it was fitted to. There its lists are far better than they would
be later, and it would teach what it remembers. So the seed models are fitted several times, to ever longer beginnings
of the log, and a prediction point asks the newest of these fits that does not know its next event: out-of-fold
predictions as in Wolpert, Stacked Generalization, Neural Networks 1992, with folds in the order of time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.event_log import EventLog
from models.data.excluded_items import SlateRules
from models.data.sequences import Positions, Sequences
from models.seeds.seed_model import SeedModel, Vectors
from models.stages import Done

FIRST_SHARE = 0.5
"""Share of a log without an earlier fit that the first fold's seed models are fitted to."""


@dataclass(frozen=True)
class Fold:
    """Seed models that are fitted to the events before a time."""

    fitted_until_ms: int
    models: Sequence[SeedModel]


@dataclass(frozen=True)
class Teachers:
    """Folds of the same K seed models, each fitted to more events than the fold before it."""

    folds: Sequence[Fold]
    rules: SlateRules
    """What they exclude from slates is not taught."""

    @property
    def names(self) -> list[str]:
        """Names of the K seed models."""
        return [model.name for model in self.folds[0].models]

    def rows(self, sequences: Sequences, since_ms: int) -> Positions:
        """Rows of the events whose next event, by the same user, is at `since_ms` or later and unknown to a fold.

        Here and below, all events of the sequences have an item: seed models read no searches.
        """
        next_row = np.arange(1, len(sequences))
        since_ms = max(since_ms, self.folds[0].fitted_until_ms)
        same_user = sequences.user[next_row] == sequences.user[next_row - 1]
        return np.flatnonzero(same_user & (sequences.ts[next_row] >= since_ms))

    def by_fold(self, sequences: Sequences, rows: Positions) -> Iterator[tuple[Fold, NDArray[np.intp]]]:
        """Each fold, and which of the rows [n] ask it: those whose next event no later fold may be asked about."""
        ends = [fold.fitted_until_ms for fold in self.folds]
        number = np.searchsorted(ends, sequences.ts[rows + 1], side="right") - 1
        for index, fold in enumerate(self.folds):
            yield fold, np.flatnonzero(number == index)


def fold_ends(log: EventLog, new_since_ms: int, folds: int) -> list[int]:
    """Times (UTC ms) before which to fit the seed models, besides the fit to the whole log; at most `folds`, ascending.

    They divide the new events, from `new_since_ms` on, into parts of about the same size. If all events are new, a
    share of them comes before the first time.
    """
    new = log.split(new_since_ms)[1]
    if not len(new):
        return []
    first = 0.0 if len(new) < len(log) else FIRST_SHARE
    shares = first + (1 - first) * np.arange(folds) / folds
    return sorted({end for end in (new.time_at(share) for share in shares.tolist()) if end > log.ts[0]})


def fit_folds(
    make: Callable[[], list[SeedModel]], log: EventLog, ends: Sequence[int], text_vectors: Vectors, done: Done
) -> list[Fold]:
    """Fit new seed models to the events before each of the times."""

    def fit(end: int) -> Fold:
        models, before = make(), log.split(end)[0]
        for model in models:
            model.fit(before, text_vectors, lambda share: done(share / len(models) / len(ends)))
        return Fold(end, models)

    return [fit(end) for end in ends]
