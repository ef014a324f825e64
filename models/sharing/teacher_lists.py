"""What the teachers teach: one list per prediction point, merged from the seed models' lists by their skill."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.event_traits import COLD_INTERACTIONS, repeated_pairs
from models.data.excluded_items import excluded_after
from models.data.sequences import Positions, Sequences
from models.seeds.policy_filter import allowed_top_k
from models.sharing.teachers import Fold, Teachers
from models.stages import Done

PREDICTION_BATCH = 512
PRIOR_POINTS = 200
"""Prediction points at the overall skill that a slice's skill starts with, so that few points do not decide."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """Lists of K seed models at n prediction points, and what happened next."""

    row: Positions  # [n], row of the sequences, which have no searches; the next row is what happened
    items: NDArray[np.int32]  # [n, K, k], padded with -1; without items that the policy bars
    slice: NDArray[np.int64]  # [n], number of the slice of the next event

    @classmethod
    def ask(
        cls, teachers: Teachers, sequences: Sequences, rows: Positions, recent: int, length: int, done: Done
    ) -> Answers:
        """Ask each row's fold. The seed models see the `recent` newest items, and answer with `length` items."""
        answers = cls(
            rows,
            np.full((len(rows), len(teachers.names), length), -1, np.int32),
            np.zeros(len(rows), np.int64),
        )
        slices, excluded = _user_slices(sequences), excluded_after(sequences, rows, teachers.rules)
        for fold, chosen in teachers.by_fold(sequences, rows):
            cold = _event_counts(sequences, fold) <= COLD_INTERACTIONS
            answers.slice[chosen] = 2 * slices[rows[chosen] + 1] + cold[sequences.item[rows[chosen] + 1]]
            for start in range(0, len(chosen), PREDICTION_BATCH):
                batch = chosen[start : start + PREDICTION_BATCH]
                contexts = sequences.contexts(rows[batch], recent)
                barred = excluded.padded(batch)
                for column, model in enumerate(fold.models):
                    answers.items[batch, column] = allowed_top_k(model, contexts, barred, length).items
                done(len(batch) / len(rows))
        return answers

    def gains(self, sequences: Sequences) -> Floats:
        """Discounted gain [n, K] of each list: 1 if its first item came next, less further down, 0 if it is absent."""
        hit = self.items == sequences.item[self.row + 1][:, None, None]
        discount = 1 / np.log2(np.arange(self.items.shape[2]) + 2)
        gains: Floats = (hit * discount).sum(axis=2).astype(np.float32)
        return gains

    def merged(self, weight: Floats, rank_weight: Floats, length: int) -> tuple[NDArray[np.int32], Floats]:
        """One list per prediction point: an item's weight is the sum over the lists of weight [n, K] · rank weight [k].

        Returns the `length` items of most weight, padded with -1, and their weights, which sum to 1: both [n, length].
        """
        n = len(self.row)
        listed = (weight[:, :, None] * rank_weight * (self.items >= 0)).reshape(n, -1)
        items = self.items.reshape(n, -1)
        order = np.argsort(items, axis=1, kind="stable")
        items, listed = np.take_along_axis(items, order, axis=1), np.take_along_axis(listed, order, axis=1)
        total = np.cumsum(listed, axis=1)
        last = np.diff(items, axis=1, append=-2) != 0  # the last of each run of one item
        before = np.maximum.accumulate(np.where(last, total, 0.0), axis=1)
        before = np.concatenate([np.zeros((n, 1)), before[:, :-1]], axis=1)
        summed = np.where(last & (items >= 0), total - before, 0.0)
        best = np.argsort(-summed, axis=1, kind="stable")[:, :length]
        weights = np.take_along_axis(summed, best, axis=1)
        chosen = np.where(weights > 0, np.take_along_axis(items, best, axis=1), -1)
        sums = weights.sum(axis=1, keepdims=True)
        return chosen.astype(np.int32), (weights / np.where(sums > 0, sums, 1)).astype(np.float32)


def skill_by_slice(gains: Floats, slices: NDArray[np.int64]) -> Floats:
    """Mean gain of each seed model in each slice: gains [n, K], slices [n] → [S, K].

    A slice with few prediction points has almost the overall means.
    """
    count = np.bincount(slices)[:, None]
    total = np.zeros((len(count), gains.shape[1]), np.float64)
    np.add.at(total, slices, gains)
    overall = gains.mean(axis=0)
    skill: Floats = ((total + PRIOR_POINTS * overall) / (count + PRIOR_POINTS)).astype(np.float32)
    return skill


def _user_slices(sequences: Sequences) -> NDArray[np.int64]:
    """Number [N] of each event: 2 if its item is new to its user, plus 1 if it is the first of its session."""
    first_of_session = np.diff(sequences.session, prepend=-1) != 0
    new_to_user = ~repeated_pairs(sequences.user, sequences.item)
    return np.where(new_to_user, 2, 0) + np.where(first_of_session, 1, 0)


def _event_counts(sequences: Sequences, fold: Fold) -> NDArray[np.int64]:
    """Events per item before the fold's end, up to the largest item number that occurs."""
    before = sequences.ts < fold.fitted_until_ms
    return np.bincount(sequences.item[before], minlength=int(sequences.item.max(initial=0)) + 1)
