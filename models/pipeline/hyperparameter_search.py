"""Hyperparameter search: which sharing strategies to use, their weights, and training settings, for the data at hand.

Akiba et al., Optuna: A Next-generation Hyperparameter Optimization Framework, KDD 2019; Bergstra et al., Algorithms for
Hyper-Parameter Optimization, NeurIPS 2011 (the sampler). A trial trains briefly on the newest events before the list
ranker's window and is scored on that window, so neither the gate's window nor a test set is used.
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

from models.data.sequences import Positions, Sequences
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
TrialParameters = dict[str, Any]
"""Values by stored name, as the manifest has them."""
SPACE = {"ahead": (1.0, 3.0, 8.0), "dropout": (0.1, 0.2, 0.4), "event_dropout": (0.0, 0.2)}
"""Values tried besides the starting configuration's. A trial also chooses whether each strategy is used, and the weight
of those that have one. `ahead` is the stored name of `Training.mean_target_gap`."""
WEIGHTS = (0.1, 0.3, 1.0)


@dataclass(frozen=True)
class SearchResult:
    """The best trial of a search."""

    config: ReleaseCandidateConfig
    parameters: TrialParameters
    gain: Interval
    """NDCG@20 of the best trial minus the starting configuration's, with a 95 % interval over users."""
    trials: list[dict[str, Any]]
    """Parameters and NDCG@20 of every trial, in order."""

    def describe(self) -> dict[str, Any]:
        """The manifest's record."""
        gain = {"difference": self.gain.difference, "low": self.gain.low, "high": self.gain.high}
        return {"choice": self.parameters, "ndcg_at_20_gain": gain, "trials": self.trials}


@dataclass(frozen=True)
class TrialScorer:
    """Scores an encoder by full ranking: the rank of the next item among all items, at M prediction points."""

    sequences: Sequences
    row: Positions  # [M] rows of the sequences: the event right before the one to predict
    exclude_seen: bool
    """Whether items that the user had before are left out, as the serving policy does."""

    @classmethod
    def draw(
        cls, sequences: Sequences, after_ms: int, points: int, exclude_seen: bool, random: np.random.Generator
    ) -> TrialScorer:
        """Draw prediction points whose next event is at `after_ms` or later."""
        user, ts = sequences.user, sequences.ts
        rows = np.flatnonzero((user[1:] == user[:-1]) & (ts[1:] >= after_ms))
        return cls(sequences, np.sort(random.choice(rows, min(points, len(rows)), replace=False)), exclude_seen)

    @torch.no_grad()
    def gains(self, encoder: SharedEncoder, training_data: TrainingData) -> Gains:
        """NDCG@20 of each prediction point [M]."""
        encoder.eval()
        items = CatalogueVectors(encoder, training_data)
        catalogue = items.at(np.arange(len(training_data.numbers)))  # [C, d]
        batches = [self.row[start : start + SCORING_BATCH] for start in range(0, len(self.row), SCORING_BATCH)]
        ranks = [self._ranks(encoder, items, catalogue, rows) for rows in batches]
        return discounted_gains(np.concatenate(ranks), K)

    def _ranks(
        self, encoder: SharedEncoder, items: CatalogueVectors, catalogue: torch.Tensor, rows: Positions
    ) -> Ranks:
        """Rank of the next item [B] among all items, 1 for the best, at the prediction points `rows` [B]."""
        sequences = self.sequences
        begin = sequences.start[np.searchsorted(sequences.start, rows, side="right") - 1]
        windows = sequences.gather(np.stack([np.maximum(begin, rows - (WINDOW - 1)), rows + 1], axis=1))
        users = encoder.step(*items.inputs(sequences, windows.row))  # [B, L, d]
        newest = torch.from_numpy(windows.present.sum(axis=1) - 1)
        scores = users[torch.arange(len(rows)), newest] @ catalogue.T  # [B, C]
        next_item = torch.from_numpy(sequences.item[rows + 1].astype(np.int64))[:, None]
        next_score = scores.gather(1, next_item)
        if self.exclude_seen:
            scores.scatter_(1, torch.from_numpy(sequences.item[windows.row].astype(np.int64)), -torch.inf)
        rank: NDArray[np.int32] = ((scores > next_score).sum(dim=1) + 1).numpy().astype(np.int32)
        return rank


def search(
    config: ReleaseCandidateConfig,
    training_data: TrainingData,
    scorer: TrialScorer,
    make_encoder: Callable[[ReleaseCandidateConfig], SharedEncoder],
    settings: SearchConfig,
    done: Done = lambda share: None,
) -> SearchResult:
    """Try the starting configuration, then the sampler's proposals, until the budget is spent.

    `make_encoder` returns an encoder to train for each trial. The trial with the best mean NDCG@20 wins; the starting
    configuration wins ties. Calls `done(share)` after each trial with the share (0 to 1) of the trials that it is.
    """
    started = time.process_time()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=config.random_seed))
    study.enqueue_trial(_starting_parameters(config))
    gains: list[Gains] = []
    configs: list[ReleaseCandidateConfig] = []

    def objective(trial: optuna.Trial) -> float:
        proposed = _propose(trial, config)
        encoder = make_encoder(proposed)
        training = replace(proposed.training, epochs=settings.epochs, child_epochs=1)
        train(encoder, training_data, _with_fewer_points(proposed.strategies), training, config.random_seed)
        gains.append(scorer.gains(encoder, training_data))
        configs.append(proposed)
        return float(gains[-1].mean())

    for finished in range(settings.trials):
        cpu_seconds = time.process_time() - started
        if finished and cpu_seconds + cpu_seconds / finished > settings.cpu_seconds:
            break
        study.optimize(objective, n_trials=1)
        done(1 / settings.trials)
    best = study.best_trial.number
    return SearchResult(
        config=configs[best],
        parameters=study.best_trial.params,
        gain=paired_interval(gains[best], gains[0], scorer.sequences.user[scorer.row]),
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
