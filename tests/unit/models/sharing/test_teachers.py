"""Seed models teach only what they were not fitted to, and only what the policy lets a ranker show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from anabranch.ranking.policy import Policy
from models.data.event_log import NONE, EventColumns, EventLog
from models.data.excluded_items import SlateRules
from models.data.sequences import Contexts, Sequences
from models.seeds.co_visit import CoVisitSeedModel
from models.seeds.seed_model import TopK, Vectors
from models.sharing.teacher_lists import Answers, skill_by_slice
from models.sharing.teachers import Fold, Teachers, fit_folds, fold_ends
from models.stages import Done
from tests.support.layouts import LAYOUT

HOUR = 3_600_000
ITEMS = 60
USERS, EVENTS = 100, 8
ALL = SlateRules(Policy(allow_session_repeats=True), LAYOUT)
"""Bars nothing."""


@dataclass
class Remembers:
    """Answers with what came next in the log that it was fitted to. It knows prediction points by user and time."""

    name: str = "remembers"

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        self.next: dict[tuple[int, int], int] = {}
        for row in np.flatnonzero(log.previous() >= 0).tolist():
            before = int(log.previous()[row])
            self.next[int(log.user[before]), int(log.ts[before])] = int(log.item[row])
        done(1.0)

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        points = zip(contexts.user.tolist(), contexts.times()[:, 0].tolist(), strict=True)
        items = np.full((len(contexts), k), NONE, np.int32)
        items[:, 0] = [self.next.get(point, NONE) for point in points]
        return TopK(items, np.ones(len(contexts), np.float32))


@dataclass
class Lists:
    """Answers with the same items everywhere."""

    items: tuple[int, ...]
    name: str = "lists"

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None: ...

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        items = np.array(self.items[:k] + (NONE,) * (k - len(self.items)), np.int32)
        return TopK(np.tile(items, (len(contexts), 1)), np.ones(len(contexts), np.float32))


def random_log() -> EventLog:
    """Users visit random items, one an hour: nothing can be predicted, but it can be remembered."""
    user, event = np.divmod(np.arange(USERS * EVENTS), EVENTS)
    item = np.random.default_rng(0).integers(0, ITEMS, len(user))
    return log_of(user, item, event * HOUR)


def log_of(user: np.ndarray, item: np.ndarray, ts: np.ndarray) -> EventLog:
    return EventLog.from_columns(
        EventColumns(user, item, np.zeros(len(user), np.int64), ts, np.full(len(user), NONE)),
        user_ids=tuple(map(str, range(int(user.max()) + 1))),
        item_ids=tuple(map(str, range(ITEMS))),
    )


def texts() -> Vectors:
    return np.zeros((ITEMS, 4), np.float32)


def teachers(log: EventLog, folds: int) -> Teachers:
    ends = fold_ends(log, 0, folds)
    return Teachers(fit_folds(lambda: [Remembers(), CoVisitSeedModel()], log, ends, texts(), lambda share: None), ALL)


def gains(log: EventLog, teaching: Teachers) -> np.ndarray:
    sequences = Sequences.from_log(log)
    rows = teaching.rows(sequences, 0)
    assert len(rows)
    return Answers.ask(teaching, sequences, rows, 8, 20, lambda share: None).gains(sequences)


@pytest.mark.parametrize("folds", [1, 2, 4])
def test_no_seed_model_is_asked_about_an_event_that_it_was_fitted_to(folds: int) -> None:
    log = random_log()
    assert gains(log, teachers(log, folds))[:, 0].tolist() == [0.0] * len(gains(log, teachers(log, folds)))


def test_asked_in_sample_a_seed_model_seems_to_know_what_cannot_be_known() -> None:
    log = random_log()
    fitted = fit_folds(lambda: [Remembers()], log, [EVENTS * HOUR], texts(), lambda share: None)[0].models
    assert gains(log, Teachers([Fold(0, fitted)], ALL)).mean() == 1.0


def test_every_new_event_after_the_first_fit_has_a_fold_that_may_be_asked() -> None:
    log = random_log()
    sequences = Sequences.from_log(log)
    teaching = teachers(log, 3)
    rows = teaching.rows(sequences, 0)
    assert (sequences.ts[rows + 1] >= log.time_at(0.5)).all()
    assert len(rows) == USERS * EVENTS // 2
    asked = [chosen for _, chosen in teaching.by_fold(sequences, rows)]
    assert sorted(np.concatenate(asked).tolist()) == list(range(len(rows)))
    for fold, chosen in teaching.by_fold(sequences, rows):
        later = [other.fitted_until_ms for other in teaching.folds if other.fitted_until_ms > fold.fitted_until_ms]
        following = sequences.ts[rows[chosen] + 1]
        assert (following >= fold.fitted_until_ms).all(), "it does not know them"
        assert (following < min(later, default=EVENTS * HOUR)).all(), "no newer fit may be asked"


def test_a_childs_first_fold_is_fitted_to_what_its_parent_was_trained_on() -> None:
    log = random_log()
    new_since = 4 * HOUR
    assert fold_ends(log, new_since, 2) == [4 * HOUR, 6 * HOUR]
    assert fold_ends(log, EVENTS * HOUR, 2) == []


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(exclude_seen=True), [4, 5, 6]),
        (Policy(), [1, 4, 5]),
        (Policy(allow_session_repeats=True), [1, 2, 3]),
    ],
    ids=["nothing seen", "nothing of the session", "everything"],
)
def test_what_the_policy_bars_is_not_taught(policy: Policy, expected: list[int]) -> None:
    """The user had item 1 in an earlier session, and 2 and 3 in the current one."""
    log = log_of(np.zeros(4, np.int64), np.array([1, 2, 3, 9]), np.array([0, 24, 24.1, 24.2]) * HOUR)
    sequences = Sequences.from_log(log)
    teaching = Teachers([Fold(0, [Lists((1, 2, 3, 4, 5, 6))])], SlateRules(policy, LAYOUT))
    answers = Answers.ask(teaching, sequences, np.array([2]), 8, 3, lambda share: None)
    assert answers.items[0, 0].tolist() == expected


def test_a_seed_models_weight_is_its_skill_in_the_slice_of_the_next_event() -> None:
    slices = np.repeat([0, 1], 5_000)
    gains = np.zeros((10_000, 2), np.float32)
    gains[slices == 0, 0] = 1.0
    gains[slices == 1, 1] = 0.5
    skill = skill_by_slice(gains, slices)
    assert skill[0, 0] > 0.9
    assert skill[0, 1] < 0.05
    assert skill[1, 1] > 0.45
    assert skill[1, 0] < 0.05


def test_the_slice_is_that_of_the_next_event() -> None:
    """Items 0 to 9 have many events before the fold's end, item 50 has none."""
    warm = np.tile(np.arange(10), 20)
    user = np.r_[np.arange(200) + 10, [0, 0, 0, 0]]
    item = np.r_[warm, [1, 2, 1, 50]]
    ts = np.r_[np.zeros(200), [HOUR, 1.1 * HOUR, 1.2 * HOUR, 30 * HOUR]]
    sequences = Sequences.from_log(log_of(user, item, ts))
    rows = np.flatnonzero(sequences.user == 0)[:3]
    teaching = Teachers([Fold(int(1.05 * HOUR), [Lists((1,))])], ALL)
    answers = Answers.ask(teaching, sequences, rows, 8, 3, lambda share: None)
    new, first, cold = 4, 2, 1
    assert answers.slice.tolist() == [new, 0, new + first + cold]


def test_lists_are_merged_by_weight_and_rank() -> None:
    answers = Answers(
        row=np.array([0]),
        items=np.array([[[7, 3, NONE], [3, 5, 8]]], np.int32),
        slice=np.array([0]),
    )
    rank_weight = np.array([1.0, 0.5, 0.25], np.float32)
    items, weight = answers.merged(np.array([[0.4, 0.6]], np.float32), rank_weight, 3)
    assert items[0].tolist() == [3, 7, 5], "3 is on both lists"
    np.testing.assert_allclose(weight[0], np.array([0.8, 0.4, 0.3]) / 1.5, rtol=1e-6)


def test_a_prediction_point_without_any_listed_item_teaches_nothing() -> None:
    answers = Answers(np.array([0]), np.full((1, 2, 3), NONE, np.int32), np.array([0]))
    items, weight = answers.merged(np.ones((1, 2), np.float32), np.ones(3, np.float32), 3)
    assert items[0].tolist() == [NONE] * 3
    assert weight[0].tolist() == [0.0] * 3
