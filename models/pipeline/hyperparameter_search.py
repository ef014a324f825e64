"""Adaptive choice: which strategies share, how much each counts, and how the encoder is trained, for the data at hand.

Akiba et al., Optuna: A Next-generation Hyperparameter Optimization Framework, KDD 2019; Bergstra et al., Algorithms for
Hyper-Parameter Optimization, NeurIPS 2011 (the sampler). Trials train briefly on the newest events before the order's
window and are judged on that window, so that neither the gate's window nor a test is touched.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import torch
from numpy.typing import NDArray

from models.data.sequences import Positions, Sequences
from models.metrics.bootstrap import Interval, paired_interval
from models.metrics.ranking import Gains, Ranks, discounted_gains
from models.networks.encoder import SharedEncoder
from models.sharing.strategies.rank_distillation import RankDistillation
from models.sharing.strategy import ItemVectors, Strategy, TrainingData
from models.sharing.training import train
from models.stages import Done

if TYPE_CHECKING:
    from models.pipeline.candidate import CandidateConfig

K = 20
MOMENTS_AT_ONCE = 512
Choice = dict[str, Any]
SPACE = {"ahead": (1.0, 3.0, 8.0), "dropout": (0.1, 0.2, 0.4), "event_dropout": (0.0, 0.2)}
"""Besides the starting point's own values; and whether each strategy is used, and the weight of those that have one."""
WEIGHTS = (0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Search:
    """How long to look, and how closely."""

    cpu_seconds: float = 60.0
    """No trial begins after so much CPU time, all threads together."""
    trials: int = 24
    events: int = 60_000
    """Newest events that trials train on."""
    epochs: int = 3
    moments: int = 2_000
    """Of the order's window, on which trials are judged."""


@dataclass(frozen=True)
class Chosen:
    """What the search found best."""

    config: CandidateConfig
    choice: Choice
    gain: Interval
    """NDCG@20 of the choice minus the starting point's on the same moments, 95 % over users."""
    trials: list[dict[str, Any]]
    """Every trial's choice and NDCG@20, in order."""

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        gain = {"difference": self.gain.difference, "low": self.gain.low, "high": self.gain.high}
        return {"choice": self.choice, "ndcg_at_20_gain": gain, "trials": self.trials}


@dataclass(frozen=True)
class Judge:
    """Ranks every item by the encoder alone at M moments, and looks where what came next stands."""

    sequences: Sequences
    row: Positions  # [M] of the sequences, the event before the one that came
    hides_own: bool
    """As the policy that will serve: what the user has had is not shown."""

    @classmethod
    def of(cls, sequences: Sequences, after: int, moments: int, hides_own: bool, random: np.random.Generator) -> Judge:
        """Moments whose next event is at `after` (ms) or later."""
        user, ts = sequences.user, sequences.ts
        rows = np.flatnonzero((user[1:] == user[:-1]) & (ts[1:] >= after))
        return cls(sequences, np.sort(random.choice(rows, min(moments, len(rows)), replace=False)), hides_own)

    @torch.no_grad()
    def gains(self, encoder: SharedEncoder, training_data: TrainingData) -> Gains:
        """NDCG@20 of each moment [M]."""
        encoder.eval()
        items = ItemVectors(encoder, training_data)
        everything = items.at(np.arange(len(training_data.numbers)))  # [C, d]
        parts = [self.row[at : at + MOMENTS_AT_ONCE] for at in range(0, len(self.row), MOMENTS_AT_ONCE)]
        ranks = [self._ranks(encoder, items, everything, part) for part in parts]
        return discounted_gains(np.concatenate(ranks), K)

    def _ranks(self, encoder: SharedEncoder, items: ItemVectors, everything: torch.Tensor, rows: Positions) -> Ranks:
        sequences = self.sequences
        begin = sequences.start[np.searchsorted(sequences.start, rows, side="right") - 1]
        windows = sequences.gather(np.stack([np.maximum(begin, rows - 63), rows + 1], axis=1))
        users = encoder.step(*items.inputs(sequences, windows.row))  # [B, L, d]
        newest = torch.from_numpy(windows.present.sum(axis=1) - 1)
        scores = users[torch.arange(len(rows)), newest] @ everything.T  # [B, C]
        wanted = torch.from_numpy(sequences.item[rows + 1].astype(np.int64))[:, None]
        score = scores.gather(1, wanted)
        if self.hides_own:
            scores.scatter_(1, torch.from_numpy(sequences.item[windows.row].astype(np.int64)), -torch.inf)
        rank: NDArray[np.int32] = ((scores > score).sum(dim=1) + 1).numpy().astype(np.int32)
        return rank


def search(
    config: CandidateConfig,
    training_data: TrainingData,
    judge: Judge,
    fresh: Callable[[CandidateConfig], SharedEncoder],
    settings: Search,
    done: Done = lambda share: None,
) -> Chosen:
    """Try the starting point first, then what the sampler proposes; `fresh` makes an encoder that has learned nothing.

    The best trial wins, the starting point if none is better.
    """
    started = time.process_time()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=config.seed))
    study.enqueue_trial(_start(config))
    gains: list[Gains] = []
    configs: list[CandidateConfig] = []

    def objective(trial: optuna.Trial) -> float:
        chosen = _suggest(trial, config)
        encoder = fresh(chosen)
        training = replace(chosen.training, epochs=settings.epochs, child_epochs=1)
        train(encoder, training_data, _briefly(chosen.strategies), training, config.seed)
        gains.append(judge.gains(encoder, training_data))
        configs.append(chosen)
        return float(gains[-1].mean())

    for tried in range(settings.trials):
        used = time.process_time() - started
        if tried and used + used / tried > settings.cpu_seconds:
            break
        study.optimize(objective, n_trials=1)
        done(1 / settings.trials)
    best = study.best_trial.number
    return Chosen(
        config=configs[best],
        choice=study.best_trial.params,
        gain=paired_interval(gains[best], gains[0], judge.sequences.user[judge.row]),
        trials=[{**trial.params, "ndcg_at_20": trial.value} for trial in study.trials if trial.value is not None],
    )


def _start(config: CandidateConfig) -> Choice:
    """The starting point, as a point of the space."""
    point: Choice = {"ahead": config.training.mean_target_gap, "dropout": config.dropout}
    point["event_dropout"] = config.training.event_dropout
    for strategy in config.strategies:
        point[strategy.name] = True
        if hasattr(strategy, "weight"):
            point[f"{strategy.name}_weight"] = strategy.weight
    return point


def _suggest(trial: optuna.Trial, config: CandidateConfig) -> CandidateConfig:
    start = _start(config)

    def one_of(name: str, choices: tuple[float, ...]) -> float:
        chosen: float = trial.suggest_categorical(name, tuple(sorted({*choices, start[name]})))
        return chosen

    told = {name: one_of(name, choices) for name, choices in SPACE.items()}
    training = replace(config.training, mean_target_gap=told["ahead"], event_dropout=told["event_dropout"])
    strategies: list[Strategy] = []
    for strategy in config.strategies:
        if not trial.suggest_categorical(strategy.name, (True, False)):
            continue
        if hasattr(strategy, "weight"):
            weight = one_of(f"{strategy.name}_weight", WEIGHTS)
            strategy = replace(strategy, weight=weight)  # type: ignore[type-var]
        strategies.append(strategy)
    return replace(config, training=training, dropout=told["dropout"], strategies=tuple(strategies))


def _briefly(strategies: tuple[Strategy, ...]) -> tuple[Strategy, ...]:
    """The same, asking seeds about a quarter of the moments."""
    return tuple(_fewer_points(strategy) for strategy in strategies)


def _fewer_points(strategy: Strategy) -> Strategy:
    if not isinstance(strategy, RankDistillation):
        return strategy
    return replace(strategy, prediction_points=strategy.prediction_points // 4)
