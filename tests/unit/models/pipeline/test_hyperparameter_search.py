"""The search starts from its configuration, keeps to its budget, and scores trials on events they did not train on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.data.event_log import EventColumns, EventLog
from models.data.sequences import Sequences
from models.networks.encoder import EncoderConfig, SharedEncoder
from models.pipeline.config import ReleaseCandidateConfig, SearchConfig
from models.pipeline.hyperparameter_search import SearchResult, TrialScorer, search
from models.sharing.strategies.text_geometry import TextGeometry
from models.sharing.strategy import TrainingData
from models.sharing.training import Training

ITEMS = 12
CONFIG = ReleaseCandidateConfig(
    threads=1, training=Training(negatives=16, events_per_step=128, mean_target_gap=8.0), strategies=(TextGeometry(),)
)
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


def run(log: EventLog, settings: SearchConfig, config: ReleaseCandidateConfig = CONFIG) -> SearchResult:
    def make_encoder(_: ReleaseCandidateConfig) -> SharedEncoder:
        torch.manual_seed(0)
        return SharedEncoder(EncoderConfig(items=ITEMS + 1, text_dims=4, white_dims=4, dims=8, state_dims=8))

    split = log.time_at(0.8)
    scorer = TrialScorer.draw(
        Sequences.from_log(log), split, settings.prediction_points, False, np.random.default_rng(0)
    )
    training_data = TrainingData(
        Sequences.from_log(log.split(split)[0]), torch.zeros(ITEMS, 4), np.arange(1, ITEMS + 1)
    )
    return search(config, training_data, scorer, make_encoder, settings)


def test_the_first_trial_is_the_starting_configuration_and_the_best_trial_wins(log: EventLog) -> None:
    result = run(log, BRIEF)
    first = result.trials[0]
    assert (first["ahead"], first["dropout"], first["text_geometry"]) == (8.0, CONFIG.dropout, True)
    assert len(result.trials) == 3
    assert result.gain.difference == max(trial["ndcg_at_20"] for trial in result.trials) - first["ndcg_at_20"]


def test_without_time_for_more_trials_the_starting_configuration_wins(log: EventLog) -> None:
    result = run(log, replace(BRIEF, cpu_seconds=0.0))
    assert len(result.trials) == 1
    assert result.config == CONFIG
    assert result.gain.difference == 0


def test_trials_are_scored_on_events_that_they_do_not_train_on(log: EventLog) -> None:
    sequences, split = Sequences.from_log(log), log.time_at(0.8)
    scorer = TrialScorer.draw(sequences, split, 1_000, False, np.random.default_rng(0))
    assert (sequences.ts[scorer.row + 1] >= split).all()
    assert (sequences.user[scorer.row + 1] == sequences.user[scorer.row]).all()


def test_the_manifest_records_the_parameters_and_the_gain(log: EventLog) -> None:
    stored = run(log, BRIEF).describe()
    assert set(stored) == {"choice", "ndcg_at_20_gain", "trials"}
    assert set(stored["ndcg_at_20_gain"]) == {"difference", "low", "high"}
