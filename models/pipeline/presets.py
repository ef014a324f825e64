"""Presets: a training configuration for each kind of data, tuned on validation splits. A search can start from one.

The kinds differ in what the order of a user's events means. In marketplace sessions the next event depends on the last,
and users return to items that they have just seen. In histories of reviews no item occurs twice. Long ones, such as
those of films, teach more in each epoch: they need fewer epochs, at a higher rate. Baskets are sets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from anabranch.co_visit_rule import CoVisitRule
from anabranch.co_visit_scoring import CoVisitScoring
from anabranch.ranking.policy import Policy
from models.knn.rule import SessionKnnRule
from models.networks.list_ranker import ListRankerConfig
from models.pipeline.config import ReleaseCandidateConfig
from models.seeds.als import AlsSeedModel
from models.seeds.attention import AttentionSeedModel
from models.seeds.gru import GruConfig
from models.seeds.seed_model import SeedModel
from models.seeds.sequence import SequenceSeedModel
from models.seeds.session_knn import SessionKnnSeedModel
from models.seeds.text import TextSeedModel
from models.sharing.strategies.adapters import DomainAdapters
from models.sharing.strategies.merging import Merging
from models.sharing.strategies.multi_task import MultiTask
from models.sharing.strategies.rank_distillation import RankDistillation
from models.sharing.strategies.replay import Replay
from models.sharing.strategies.text_geometry import TextGeometry
from models.sharing.strategy import Strategy
from models.sharing.training import Training

STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "text_geometry": TextGeometry,
    "domain_adapters": DomainAdapters,
    "replay": Replay,
    "merging": Merging,
    "rank_distillation": RankDistillation,
    "multi_task": MultiTask,
}
"""Every sharing strategy with its default settings, in the order in which strategies are combined."""

Kind = Literal["sessions", "histories", "long_histories", "baskets"]


def preset(kind: Kind, random_seed: int = 0, threads: int = 2) -> ReleaseCandidateConfig:
    """The configuration for a kind of data."""
    if kind == "sessions":
        return ReleaseCandidateConfig(
            random_seed=random_seed,
            threads=threads,
            policy=Policy(allow_session_repeats=True, co_visit_scoring=CoVisitScoring(decay=0.7, own_share=0.2)),
            co_visits=CoVisitRule(gap_power=0.75, backward=0.75),
            seed_models=_for_sessions,
            training=Training(catching_up_epochs=8, child_epochs=12, child_rate=4e-3),
            strategies=(TextGeometry(), Replay()),
            list_ranker=ListRankerConfig(hidden=64, epochs=8, class_weight=0.0),
        )
    if kind == "histories":
        return ReleaseCandidateConfig(
            random_seed=random_seed,
            threads=threads,
            policy=Policy(exclude_seen=True, neighbours=32, co_visit_scoring=CoVisitScoring(decay=0.5)),
            co_visits=CoVisitRule(gap_power=0.5, backward=0.25, text_prior=15.0),
            seed_models=_for_histories,
            strategies=(TextGeometry(), Replay(first=False)),
            dims=128,
            white_dims=256,
            dropout=0.4,
            training=Training(
                epochs=24,
                catching_up_epochs=10,
                child_epochs=10,
                learning_rate=3e-3,
                child_rate=2e-3,
                negatives=1024,
                event_dropout=0.2,
            ),
            list_ranker=ListRankerConfig(hidden=64, epochs=8, class_weight=0.0),
        )
    if kind == "long_histories":
        return replace(
            preset("histories", random_seed, threads),
            dims=64,
            white_dims=128,
            dropout=0.2,
            training=Training(epochs=12, child_epochs=2, learning_rate=1e-2, window=128),
        )
    return ReleaseCandidateConfig(
        random_seed=random_seed,
        threads=threads,
        policy=Policy(co_visit_scoring=CoVisitScoring(recent=64, decay=1.0, own_share=0.1)),
        co_visits=CoVisitRule(across=0.1),
        session_knn=SessionKnnRule(recent=64, recency=64.0, distance=20.0),
        training=Training(epochs=5, window=128, negatives=1024, mean_target_gap=8.0),
        list_ranker=ListRankerConfig(epochs=12, weight_decay=0.01, session_start_weight=3.0),
    )


def _for_sessions(config: ReleaseCandidateConfig) -> list[SeedModel]:
    return [
        SessionKnnSeedModel(config.session_knn),
        SequenceSeedModel(config.random_seed, GruConfig(mean_target_gap=1.0)),
    ]


def _for_histories(config: ReleaseCandidateConfig) -> list[SeedModel]:
    """Without session neighbours: every session of these data sets has one event."""
    return [
        AlsSeedModel(random_seed=config.random_seed, threads=config.threads),
        TextSeedModel(dims=256),
        AttentionSeedModel(config.random_seed),
    ]
