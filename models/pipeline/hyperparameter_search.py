"""Hyperparameter search: which sharing strategies to use, their weights, and training settings, for the data at hand.

Akiba et al., Optuna: A Next-generation Hyperparameter Optimization Framework, KDD 2019; Bergstra et al., Algorithms for
Hyper-Parameter Optimization, NeurIPS 2011 (the sampler). A trial trains briefly on the newest events before the list
ranker's window and is scored on that window, so neither the gate's window nor a test set is used.

The best of many trials looks better than it is on the events that chose it (Cawley and Talbot, On Over-fitting in Model
Selection and Subsequent Selection Bias in Performance Evaluation, JMLR 2010). So some users choose the trial, and the
others measure its gain over the starting configuration, which stays unless the gain is certain.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from torch import Tensor

from anabranch.ranking.pipeline.feedback import NOT_ON_SLATE
from models.data.event_log import EventLog
from models.data.excluded_items import SlateRules
from models.data.sequences import Positions, Sequences
from models.evaluation.seed_model_ranks import prediction_points_before
from models.metrics.bootstrap import Interval, paired_interval
from models.metrics.ranking import Gains, Ranks, discounted_gains
from models.networks.encoder import SharedEncoder
from models.pipeline.config import ReleaseCandidateConfig, SearchConfig
from models.sharing.strategies.rank_distillation import RankDistillation
from models.sharing.strategy import CatalogueVectors, Strategy, TrainingData
from models.sharing.training import train
from models.stages import Done

K = 20
SCORING_BATCH = 512
"""Prediction points that are scored in one forward pass."""
WINDOW = 64
"""Events of the user that the encoder reads at a prediction point."""
RANDOM_SEEDS = 3
"""The best trial has to be better in the mean of so many trainings: one of many trials is also the luckiest."""
CONFIRMING = 2 * (RANDOM_SEEDS - 1)
"""Trainings that this takes: of the best trial and of the starting configuration."""
TrialParameters = dict[str, Any]
"""Values by stored name, as the manifest has them."""
SPACE = {"ahead": (1.0, 3.0, 8.0), "dropout": (0.1, 0.2, 0.4), "event_dropout": (0.0, 0.2)}
"""Values tried besides the starting configuration's. A trial also chooses whether each strategy is used, and the weight
of those that have one. `ahead` is the stored name of `Training.mean_target_gap`."""
WEIGHTS = (0.1, 0.3, 1.0)


@dataclass(frozen=True)
class SearchResult:
    """What a search came to."""

    config: ReleaseCandidateConfig
    """Of the best trial if its gain is certain; else the one that the search started from."""
    parameters: TrialParameters
    """The same as a point of the search space."""
    best: TrialParameters
    """Of the best trial."""
    gain: Interval
    """NDCG@20 of the best trial minus the starting configuration's, with a 95 % interval over users, on the users that
    did not choose it: the mean of `RANDOM_SEEDS` trainings of either."""
    trials: list[dict[str, Any]]
    """Parameters of every trial and its NDCG@20 on the users that choose, in order."""

    def describe(self) -> dict[str, Any]:
        """The manifest's record."""
        gain = {"difference": self.gain.difference, "low": self.gain.low, "high": self.gain.high}
        return {"choice": self.parameters, "best": self.best, "ndcg_at_20_gain": gain, "trials": self.trials}


@dataclass(frozen=True)
class TrialScorer:
    """Scores an encoder by full ranking: the rank of the next item among the items that the policy admits, at M
    prediction points."""

    sequences: Sequences
    row: Positions  # [M] rows of the sequences: the event right before the one to predict
    excluded: NDArray[np.int32]  # [M, h] items that the serving policy excludes there; -1 padded
    choosing: NDArray[np.bool_]
    """[M], whether the point's user chooses the best trial. The points of the other users measure its gain."""

    @classmethod
    def draw(
        cls, log: EventLog, after_ms: int, points: int, rules: SlateRules, random: np.random.Generator
    ) -> TrialScorer:
        """Draw prediction points whose next event is about an item, at `after_ms` or later. Half of their users choose.

        The encoder reads the searches of the log, as in serving.
        """
        log = log.with_items_and_searches()
        sequences, by_user = Sequences.with_searches(log), np.lexsort((np.arange(len(log)), log.user))
        same_user = sequences.user[1:] == sequences.user[:-1]
        rows = np.flatnonzero(same_user & (sequences.ts[1:] >= after_ms) & sequences.has_item[1:])
        rows = np.sort(random.choice(rows, min(points, len(rows)), replace=False))
        users = random.permutation(np.unique(sequences.user[rows]))
        return cls(
            sequences=sequences,
            row=rows,
            excluded=prediction_points_before(log, by_user[rows + 1], rules).excluded,
            choosing=np.isin(sequences.user[rows], users[: len(users) // 2]),
        )

    @property
    def user(self) -> NDArray[np.int32]:
        """[M], each point's user."""
        return self.sequences.user[self.row]

    @torch.no_grad()
    def gains(self, encoder: SharedEncoder, training_data: TrainingData) -> Gains:
        """NDCG@20 of each prediction point [M]."""
        encoder.eval()
        items = CatalogueVectors(encoder, training_data)
        catalogue = items.at(np.arange(len(training_data.numbers)))  # [C, d]
        batches = [slice(start, start + SCORING_BATCH) for start in range(0, len(self.row), SCORING_BATCH)]
        return discounted_gains(np.concatenate([self._ranks(encoder, items, catalogue, part) for part in batches]), K)

    def _ranks(self, encoder: SharedEncoder, items: CatalogueVectors, catalogue: Tensor, part: slice) -> Ranks:
        """Rank of the next item [B], 1 for the best, at a part of the points; `NOT_ON_SLATE` if it is excluded."""
        scores = self._users(encoder, items, self.row[part]) @ catalogue.T  # [B, C]
        excluded = self.excluded[part]
        point, place = np.nonzero(excluded >= 0)
        scores[torch.from_numpy(point), torch.from_numpy(excluded[point, place].astype(np.int64))] = -torch.inf
        next_item = torch.from_numpy(self.sequences.item[self.row[part] + 1].astype(np.int64))[:, None]
        next_score = scores.gather(1, next_item)
        rank = (scores > next_score).sum(dim=1).numpy() + 1
        return np.where(next_score[:, 0].isneginf().numpy(), NOT_ON_SLATE, rank).astype(np.int32)

    def _users(self, encoder: SharedEncoder, items: CatalogueVectors, rows: Positions) -> Tensor:
        """User vectors [B, d] after the events at rows [B] of the sequences."""
        sequences = self.sequences
        begin = sequences.start[np.searchsorted(sequences.start, rows, side="right") - 1]
        windows = sequences.gather(np.stack([np.maximum(begin, rows - (WINDOW - 1)), rows + 1], axis=1))
        users = encoder.step(*items.inputs(sequences, windows.row))  # [B, L, d]
        newest: Tensor = users[torch.arange(len(rows)), torch.from_numpy(windows.present.sum(axis=1) - 1)]
        return newest


def search(
    config: ReleaseCandidateConfig,
    training_data: TrainingData,
    scorer: TrialScorer,
    make_encoder: Callable[[ReleaseCandidateConfig], SharedEncoder],
    settings: SearchConfig,
    done: Done = lambda share: None,
) -> SearchResult:
    """Try the starting configuration, then the sampler's proposals, until the budget is spent.

    `make_encoder` returns an encoder to train for each trial. The trial with the best mean NDCG@20 on the users that
    choose is trained with further random seeds, and so is the starting configuration: it is taken if, on the other
    users, its gain over that is above 0 with its whole interval. Calls `done(share)` after each training with the share
    (0 to 1) of all trainings that it is. Raises `ValueError` unless some users choose and others measure.
    """
    started = time.process_time()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it warns, with a traceback, of each error that it raises again
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=config.random_seed))
    study.enqueue_trial(_starting_parameters(config))
    gains: list[Gains] = []
    configs: list[ReleaseCandidateConfig] = []

    def gains_of(proposed: ReleaseCandidateConfig) -> Gains:
        encoder = make_encoder(proposed)
        training = replace(proposed.training, epochs=settings.epochs, catching_up_epochs=1, child_epochs=1)
        train(encoder, training_data, _with_fewer_points(proposed.strategies), training, proposed.random_seed)
        done(1 / (settings.trials + CONFIRMING))
        return scorer.gains(encoder, training_data)

    def objective(trial: optuna.Trial) -> float:
        configs.append(_propose(trial, config))
        gains.append(gains_of(configs[-1]))
        return float(gains[-1][scorer.choosing].mean())

    for finished in range(settings.trials):
        cpu_seconds = time.process_time() - started
        if finished and cpu_seconds + (1 + CONFIRMING) * cpu_seconds / finished > settings.cpu_seconds:
            break
        study.optimize(objective, n_trials=1)
    best, measuring = study.best_trial.number, ~scorer.choosing
    ours, theirs = gains[best], gains[0]
    if best:
        for random_seed in range(config.random_seed + 1, config.random_seed + RANDOM_SEEDS):
            ours = ours + gains_of(replace(configs[best], random_seed=random_seed))
            theirs = theirs + gains_of(replace(config, random_seed=random_seed))
        ours, theirs = ours / RANDOM_SEEDS, theirs / RANDOM_SEEDS
    gain = paired_interval(ours[measuring], theirs[measuring], scorer.user[measuring])
    taken = best if gain.low > 0 else 0
    return SearchResult(
        config=configs[taken],
        parameters=study.trials[taken].params,
        best=study.best_trial.params,
        gain=gain,
        trials=[{**trial.params, "ndcg_at_20": trial.value} for trial in study.trials if trial.value is not None],
    )


def _starting_parameters(config: ReleaseCandidateConfig) -> TrialParameters:
    """The starting configuration as a point of the search space."""
    parameters: TrialParameters = {"ahead": config.training.mean_target_gap, "dropout": config.dropout}
    parameters["event_dropout"] = config.training.event_dropout
    for strategy in config.strategies:
        parameters[strategy.name] = True
        if hasattr(strategy, "weight"):
            parameters[f"{strategy.name}_weight"] = strategy.weight
    return parameters


def _propose(trial: optuna.Trial, config: ReleaseCandidateConfig) -> ReleaseCandidateConfig:
    """The configuration that the sampler proposes for a trial."""
    start = _starting_parameters(config)

    def suggest(name: str, values: tuple[float, ...]) -> float:
        value: float = trial.suggest_categorical(name, tuple(sorted({*values, start[name]})))
        return value

    value = {name: suggest(name, values) for name, values in SPACE.items()}
    training = replace(config.training, mean_target_gap=value["ahead"], event_dropout=value["event_dropout"])
    strategies: list[Strategy] = []
    for strategy in config.strategies:
        if not trial.suggest_categorical(strategy.name, (True, False)):
            continue
        if hasattr(strategy, "weight"):
            weight = suggest(f"{strategy.name}_weight", WEIGHTS)
            strategy = replace(strategy, weight=weight)  # type: ignore[type-var]
        strategies.append(strategy)
    return replace(config, training=training, dropout=value["dropout"], strategies=tuple(strategies))


def _with_fewer_points(strategies: tuple[Strategy, ...]) -> tuple[Strategy, ...]:
    """The same strategies; rank distillation asks the seed models at a quarter of the prediction points."""
    return tuple(
        replace(strategy, prediction_points=strategy.prediction_points // 4)
        if isinstance(strategy, RankDistillation)
        else strategy
        for strategy in strategies
    )
