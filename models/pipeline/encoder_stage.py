"""First half of the training pipeline: seed models, then the search, then the shared encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import load as load_weights
from torch import Tensor

from anabranch.co_visit.table import CoVisitTable
from anabranch.input_files.times import as_iso
from anabranch.release import Release
from models.co_visit.model import CoVisitModel
from models.data.event_log import EventLog, NotEnoughData
from models.networks.encoder import EncoderConfig, SharedEncoder, stored_dims
from models.pipeline.catalogue import Catalogue
from models.pipeline.config import PipelineInputs, ReleaseCandidateConfig
from models.pipeline.hyperparameter_search import SearchResult, TrialScorer, search
from models.seeds.seed_model import SeedModel
from models.sharing.strategy import TrainingData
from models.sharing.teachers import Fold, Teachers, fit_folds, fold_ends
from models.sharing.training import TrainingObserver, train
from models.stages import Done, Stages

ENCODER_WEIGHTS = "encoder.safetensors"
"""File of the encoder's weights, from which a child's encoder starts."""

SEARCH_TRAINING_SHARE = 0.8
"""Share of a child's new events that search trials train on, if the list ranker's window holds all of them; trials are
scored on the rest."""


@dataclass(frozen=True)
class FittedSeedModels:
    """The seed models, the co-visit model first, and the co-visit table that serves."""

    models: Sequence[SeedModel]
    served_co_visits: CoVisitTable
    teachers: Teachers | None
    """The same, and their earlier fits; None if no strategy needs them."""


def fit_seed_models(
    inputs: PipelineInputs, catalogue: Catalogue, config: ReleaseCandidateConfig, stages: Stages
) -> FittedSeedModels:
    """Fit the co-visit model and, if a later stage needs them, the configured seed models, and their earlier fits."""
    log, text_vectors, texts = inputs.before, catalogue.text_vectors, catalogue.text_neighbours
    co_visit = config.co_visit_seed_model()
    others = _teaching(config.seed_models(config), config) if config.uses_seed_models else []
    with stages(f"seed {co_visit.name}") as done:
        counted = count_co_visits(inputs.encoder_log, catalogue, config, done)
        served = counted.table(config.policy.neighbours)
        co_visit.learn_from(counted, len(text_vectors))
    for model in others:
        with stages(f"seed {model.name}") as done:
            model.fit(log, text_vectors, done)
    teach = _teaching([co_visit, *others], config)
    if config.distillation is None:
        return FittedSeedModels(teach, served, None)
    ends = fold_ends(log, inputs.new_since_ms if inputs.parent else 0, config.distillation.folds)
    with stages("teachers") as done:
        folds = fit_folds(lambda: _teaching(config.all_seed_models(texts), config), log, ends, text_vectors, done)
    teachers = Teachers([*folds, Fold(inputs.order_from_ms, teach)], config.rules)
    return FittedSeedModels(teach, served, teachers)


def count_co_visits(
    log: EventLog, catalogue: Catalogue, config: ReleaseCandidateConfig, done: Done = lambda share: None
) -> CoVisitModel:
    """The co-visits of a log as serving counts them: with the searches, which continue a session."""
    model = config.co_visit_model(catalogue.text_neighbours)
    return model.fit(log, lambda events: done(events / len(log)))


def _teaching(models: Sequence[SeedModel], config: ReleaseCandidateConfig) -> list[SeedModel]:
    return [model for model in models if model.name not in config.left_out_seed_models]


def search_sharing(
    inputs: PipelineInputs,
    catalogue: Catalogue,
    seed_models: FittedSeedModels,
    config: ReleaseCandidateConfig,
    stages: Stages,
) -> SearchResult | None:
    """Search strategies, weights and training settings for the data; None if the configuration asks for no search.

    Trials train on the newest events before the list ranker's window and are scored on that window. Raises
    `NotEnoughData` if nothing can be scored.
    """
    if config.search is None:
        return None
    random = np.random.default_rng(config.random_seed)
    log, before, scored_from_ms = inputs.log, inputs.encoder_log, inputs.order_from_ms
    if inputs.parent is not None and inputs.new_since_ms >= scored_from_ms:  # leave new events to train on
        new_events = log.between(inputs.new_since_ms, int(log.ts[-1]) + 1)
        scored_from_ms = new_events.time_at(SEARCH_TRAINING_SHARE) if len(new_events) else inputs.new_since_ms
        before = log.split(scored_from_ms)[0]
    scorer = TrialScorer.draw(log, scored_from_ms, config.search.prediction_points, config.rules, random)
    users = len(np.unique(scorer.user))
    if users < 2:
        raise NotEnoughData(
            f"of the users with an event from {as_iso(scored_from_ms)} on, {users} had one before it. The search needs "
            "two: one to choose a trial, one to measure its gain. Without them trials of the search cannot be scored: "
            "leave out --search-seconds, or give more events of users who come back"
        )
    new_since_ms = inputs.new_since_ms if inputs.parent else 0
    data = catalogue.training_data(before.last(config.search.events), seed_models.teachers, new_since_ms)

    def make_encoder(trial: ReleaseCandidateConfig) -> SharedEncoder:
        return new_encoder(catalogue, inputs.parent, trial)

    with stages("search") as done:
        return search(config, data, scorer, make_encoder, config.search, done)


def new_encoder(catalogue: Catalogue, parent: Release | None, config: ReleaseCandidateConfig) -> SharedEncoder:
    """An untrained encoder, or the parent's enlarged by residuals for new items."""
    torch.manual_seed(config.random_seed)
    items = len(catalogue.numbers) + 1
    if parent is not None:
        return load_encoder(load_weights(parent.read(ENCODER_WEIGHTS)), items, config.dropout)
    text_dims = catalogue.text_vectors.shape[1]
    return SharedEncoder(EncoderConfig(items, text_dims, config.white_dims, config.dims, dropout=config.dropout))


def load_encoder(weights: Mapping[str, Tensor], items: int, dropout: float = 0.0) -> SharedEncoder:
    """An encoder with a release's weights, and residuals for at least as many `items` as it has."""
    encoder = SharedEncoder(EncoderConfig(items, *stored_dims(weights), dropout=dropout))
    encoder.inherit(weights)
    return encoder


def share(
    inputs: PipelineInputs,
    encoder: SharedEncoder,
    catalogue: Catalogue,
    seed_models: FittedSeedModels,
    config: ReleaseCandidateConfig,
    stages: Stages,
) -> dict[str, float]:
    """Train the encoder on the events before the list ranker's window; returns losses and other metrics by name.

    A child whose parent was trained on all of those events is not trained here: the result is empty.
    """
    if inputs.parent is not None and inputs.new_since_ms >= inputs.order_from_ms:
        return {}
    new_since_ms = inputs.new_since_ms if inputs.parent else 0
    data = catalogue.training_data(inputs.encoder_log, seed_models.teachers, new_since_ms)
    return _train("sharing", encoder, data, config, stages)


def fine_tune(
    encoder: SharedEncoder,
    data: TrainingData,
    sharing_metrics: dict[str, float],
    config: ReleaseCandidateConfig,
    stages: Stages,
) -> dict[str, float]:
    """Train the encoder on the list ranker's window too, so that the release serves with the newest events.

    Returns the metrics of both trainings: all of `sharing_metrics`, and the losses of this one under names that end in
    `_catching_up`. Without sharing metrics this is the sharing stage, and its metrics are returned as they are.
    """
    if not sharing_metrics:
        return _train("sharing", encoder, data, config, stages)
    metrics = _train("catching up", encoder, data, config, stages)
    losses = {f"{name}_catching_up": value for name, value in metrics.items() if name.startswith("loss")}
    return sharing_metrics | losses


def _train(
    stage: str, encoder: SharedEncoder, data: TrainingData, config: ReleaseCandidateConfig, stages: Stages
) -> dict[str, float]:
    with stages(stage) as done:
        curve = stages.curves.for_stage(stage)
        return train(
            encoder, data, config.strategies, config.training, config.random_seed, TrainingObserver(done, curve)
        )
