"""The search starts from its configuration, keeps to its budget, and scores trials on events they did not train on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from anabranch.ranking.policy import Policy
from models.data.event_log import EventColumns, EventLog
from models.data.excluded_items import SlateRules
from models.data.sequences import Sequences
from models.metrics.ranking import Gains
from models.networks.encoder import EncoderConfig, SharedEncoder
from models.pipeline import hyperparameter_search as module
from models.pipeline.config import ReleaseCandidateConfig, SearchConfig
from models.pipeline.hyperparameter_search import SearchResult, TrialScorer, search
from models.sharing.strategies.text_geometry import TextGeometry
from models.sharing.strategy import TrainingData
from models.sharing.training import Training
from tests.support.layouts import LAYOUT
from tests.support.training_data import SEARCH, with_searches

ITEMS = 12
CONFIG = ReleaseCandidateConfig(
    threads=1, training=Training(negatives=16, events_per_step=128, mean_target_gap=8.0), strategies=(TextGeometry(),)
)
REPEATS = SlateRules(Policy(allow_session_repeats=True), LAYOUT)
BRIEF = SearchConfig(cpu_seconds=60.0, trials=3, epochs=1, prediction_points=50)


@pytest.fixture
def log() -> EventLog:
    """Forty users go round the items in order: what comes next is certain, what comes later less so."""
    user, step = np.divmod(np.arange(40 * 30), 30)
    return EventLog.from_columns(
        EventColumns(user, (user + step) % ITEMS, np.zeros(len(user)), step * 60_000, np.full(len(user), -1)),
        user_ids=tuple(map(str, range(40))),
        item_ids=tuple(map(str, range(ITEMS))),
    )


def make_encoder(_: ReleaseCandidateConfig = CONFIG) -> SharedEncoder:
    torch.manual_seed(0)
    return SharedEncoder(EncoderConfig(items=ITEMS + 1, text_dims=4, white_dims=4, dims=8, state_dims=8))


def run(
    log: EventLog,
    settings: SearchConfig,
    config: ReleaseCandidateConfig = CONFIG,
    make_scorer: Callable[..., TrialScorer] = TrialScorer.draw,
) -> SearchResult:
    split = log.time_at(0.8)
    scorer = make_scorer(log, split, settings.prediction_points, REPEATS, np.random.default_rng(0))
    training_data = TrainingData(
        Sequences.from_log(log.split(split)[0]), torch.zeros(ITEMS, 4), np.arange(1, ITEMS + 1)
    )
    return search(config, training_data, scorer, make_encoder, settings)


def test_the_first_trial_is_the_starting_configuration_and_the_best_trial_wins_if_its_gain_is_certain(
    log: EventLog,
) -> None:
    result = run(log, replace(BRIEF, epochs=3))
    first = result.trials[0]
    assert (first["ahead"], first["dropout"], first["text_geometry"]) == (8.0, CONFIG.dropout, True)
    assert len(result.trials) == 3
    best = max(result.trials, key=lambda trial: trial["ndcg_at_20"])
    assert best["ndcg_at_20"] > first["ndcg_at_20"]
    assert result.gain.low > 0
    assert result.parameters == result.best == {name: value for name, value in best.items() if name != "ndcg_at_20"}
    assert result.config.training.mean_target_gap == best["ahead"]


def test_without_time_for_more_trials_the_starting_configuration_wins(log: EventLog) -> None:
    result = run(log, replace(BRIEF, cpu_seconds=0.0))
    assert len(result.trials) == 1
    assert result.config == CONFIG
    assert result.gain.difference == 0


def test_trials_are_scored_on_events_that_they_do_not_train_on(log: EventLog) -> None:
    split = log.time_at(0.8)
    scorer = TrialScorer.draw(log, split, 1_000, REPEATS, np.random.default_rng(0))
    sequences = scorer.sequences
    assert (sequences.ts[scorer.row + 1] >= split).all()
    assert (sequences.user[scorer.row + 1] == sequences.user[scorer.row]).all()


def test_one_half_of_the_users_chooses_the_trial_and_the_other_half_measures_its_gain(log: EventLog) -> None:
    scorer = TrialScorer.draw(log, log.time_at(0.8), 1_000, REPEATS, np.random.default_rng(0))
    choosing, measuring = set(scorer.user[scorer.choosing]), set(scorer.user[~scorer.choosing])
    assert len(choosing) == len(measuring) == 20
    assert not choosing & measuring


class LuckyTrials(TrialScorer):
    """Trainings in their order: the starting configuration, two more trials, of which the second is the best for the
    users that choose, and then the best trial and the starting configuration by turns with other random seeds."""

    OF_CHOOSING = (0.5, 0.6, 1.0, 0.0, 0.0, 0.0, 0.0)
    OF_OTHERS = (0.5, 0.2, 0.2, 0.2, 0.5, 0.2, 0.5)

    def gains(self, encoder: SharedEncoder, training_data: TrainingData) -> Gains:
        training = getattr(self, "_trainings", 0)
        object.__setattr__(self, "_trainings", training + 1)
        return np.where(self.choosing, self.OF_CHOOSING[training], self.OF_OTHERS[training])


class TrialsOfOneSeed(LuckyTrials):
    """The best trial is better for all users with one random seed, and with the others it is not."""

    OF_OTHERS = (0.5, 0.2, 0.8, 0.4, 0.6, 0.4, 0.6)


def test_a_trial_that_only_the_choosing_users_like_is_not_taken_and_its_loss_is_reported(log: EventLog) -> None:
    result = run(log, BRIEF, make_scorer=LuckyTrials.draw)
    assert result.trials[2]["ndcg_at_20"] == 1.0
    assert result.gain.difference == pytest.approx(-0.3)
    assert result.gain.high < 0
    assert result.config == CONFIG
    assert result.parameters["ahead"] == CONFIG.training.mean_target_gap
    assert result.best == {name: value for name, value in result.trials[2].items() if name != "ndcg_at_20"}


def test_a_gain_is_the_mean_of_three_random_seeds(log: EventLog) -> None:
    result = run(log, BRIEF, make_scorer=TrialsOfOneSeed.draw)
    assert result.gain.difference == pytest.approx((0.3 - 0.2 - 0.2) / 3)
    assert result.config == CONFIG


def test_the_time_to_confirm_the_best_trial_is_part_of_the_budget(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training takes ten seconds: of a hundred, six trials leave enough for the four that confirm the best."""
    now = [0.0]
    monkeypatch.setattr(module.time, "process_time", lambda: now[0])

    def train_for_ten_seconds(*_: object) -> None:
        now[0] += 10

    monkeypatch.setattr(module, "train", train_for_ten_seconds)
    assert len(run(log, SearchConfig(cpu_seconds=100.0, trials=24)).trials) == 6
    assert now[0] <= 100


def test_trials_predict_visits_and_read_the_searches_before_them(log: EventLog) -> None:
    searching = with_searches(log, log.item)
    scorer = TrialScorer.draw(searching, log.time_at(0.8), 1_000, REPEATS, np.random.default_rng(0))
    assert len(scorer.row) == 40 * 6
    assert scorer.sequences.has_item[scorer.row + 1].all()
    assert (scorer.sequences.type[scorer.row] == SEARCH).all()
    visits = TrialScorer.draw(log, log.time_at(0.8), 1_000, REPEATS, np.random.default_rng(0))
    assert np.array_equal(scorer.excluded, visits.excluded)
    data = TrainingData(
        scorer.sequences, torch.zeros(ITEMS, 4), np.arange(1, ITEMS + 1), query_vectors=torch.zeros(ITEMS, 4)
    )
    assert len(scorer.gains(make_encoder(), data)) == len(scorer.row)


def test_an_item_that_the_policy_excludes_earns_no_credit(log: EventLog) -> None:
    """After twelve events every user has had every item."""
    assert gains(log, REPEATS.policy, log.time_at(0.8)).any()
    assert not gains(log, Policy(exclude_seen=True), log.time_at(0.8)).any()
    assert not gains(log, Policy(), log.time_at(0.8)).any(), "all events of a user are one session"
    assert gains(log, Policy(exclude_seen=True), 0).any(), "the first time round they are new"


def test_items_that_the_policy_excludes_take_no_place(log: EventLog) -> None:
    """At a user's twelfth item only that one is left."""
    twelfth = int(log.ts[log.previous() >= 0][0]) + 10 * 60_000
    before, _ = log.split(twelfth + 1)
    assert gains(before, Policy(exclude_seen=True), twelfth).tolist() == [1.0] * 40
    assert gains(before, REPEATS.policy, twelfth).mean() < 1


def gains(log: EventLog, policy: Policy, after_ms: int) -> Gains:
    """Of an untrained encoder, at all prediction points."""
    scorer = TrialScorer.draw(log, after_ms, 10_000, SlateRules(policy, LAYOUT), np.random.default_rng(0))
    data = TrainingData(scorer.sequences, torch.zeros(ITEMS, 4), np.arange(1, ITEMS + 1))
    return scorer.gains(make_encoder(), data)


def test_the_manifest_records_the_parameters_and_the_gain(log: EventLog) -> None:
    stored = run(log, BRIEF).describe()
    assert set(stored) == {"choice", "best", "ndcg_at_20_gain", "trials"}
    assert set(stored["ndcg_at_20_gain"]) == {"difference", "low", "high"}
