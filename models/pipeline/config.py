"""What the training pipeline is given: its inputs, and the configuration of every stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from anabranch.co_visit.text_prior import TextPrior
from anabranch.co_visit_rule import CoVisitRule
from anabranch.input_files.times import as_iso
from anabranch.messages import Item
from anabranch.ranking.policy import Policy
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.release import Release
from anabranch.settings import DEFAULTS, Settings
from models.co_visit.model import CoVisitModel
from models.data.catalogue_join import join_catalogue
from models.data.event_log import EventLog, NotEnoughData
from models.data.excluded_items import SlateRules
from models.knn.rule import SessionKnnRule, UserKnnRule
from models.networks.list_ranker import ListRankerConfig
from models.networks.purchase_head import PurchaseConfig
from models.networks.text_transformer import TextConfig
from models.offline.catalogue_history import CatalogueHistory
from models.seeds.als import AlsSeedModel
from models.seeds.co_visit import CoVisitSeedModel
from models.seeds.seed_model import SeedModel
from models.seeds.sequence import SequenceSeedModel
from models.seeds.text import TextSeedModel
from models.sharing.strategies.rank_distillation import RankDistillation
from models.sharing.strategies.replay import Replay
from models.sharing.strategies.text_geometry import TextGeometry
from models.sharing.strategy import Strategy
from models.sharing.training import Training


@dataclass(frozen=True)
class PipelineInputs:
    """Events and items to train on, the times that split the events, and the parent release if there is one.

    Events before `order_from_ms` train the seed models and the encoder. Later events train the list ranker on item and
    user vectors that have not been fitted to them, as in serving.
    """

    log: EventLog
    """Searches are part of it: the encoder reads them, in training and when items are ranked."""
    items: Sequence[Item]
    order_from_ms: int
    parent: Release | None = None
    """Encoder and list ranker start from its weights."""
    new_since_ms: int = 0
    """The parent was trained on the events before this time. Without a parent every event is new."""
    purchases_from_ms: int | None = None
    """The purchase head trains on events from this time on; None: from `order_from_ms` on. It needs more days than its
    horizon, so it may need days that the encoder was trained on."""
    catalogue: CatalogueHistory = field(default_factory=CatalogueHistory)
    """How `items` changed while the events happened; without changes they always were what they are."""

    @property
    def encoder_log(self) -> EventLog:
        """The events before the list ranker's window that train the encoder, with the searches."""
        return self.log.split(self.order_from_ms)[0]

    @property
    def before(self) -> EventLog:
        """The events about items among them, which train the seed models."""
        return self.encoder_log.with_items()

    @property
    def after(self) -> EventLog:
        """The events about items of the list ranker's window."""
        return self.log.split(self.order_from_ms)[1].with_items()

    @property
    def order_from_row(self) -> int:
        """Row of `log` of the first event of the list ranker's window."""
        return int(np.searchsorted(self.log.ts, self.order_from_ms))

    def numbered_by_catalogue(self) -> PipelineInputs:
        """The same with item numbers that are rows of `items`; events about other items, and about none, are dropped,
        except searches.

        Raises `NotEnoughData` if no event is left for the encoder, or none for the list ranker.
        """
        joined = replace(self, log=join_catalogue(self.log, [item.item_id for item in self.items]))
        before, after = len(joined.before), len(joined.after)
        if not before or not after:
            raise NotEnoughData(
                f"of the {before + after:,} events about items of the catalogue, {before:,} are before "
                f"{as_iso(self.order_from_ms)}, to train the encoder, and {after:,} are later, to train "
                "the list ranker; both need some. Give events of a longer time, or change the length of the list "
                "ranker's window (`reshare --order-days`)"
            )
        return joined


@dataclass(frozen=True)
class SearchConfig:
    """Budget of the hyperparameter search."""

    cpu_seconds: float = 60.0
    """No trial starts after this much CPU time of all threads together."""
    trials: int = 24
    events: int = 60_000
    """Newest events that a trial trains on."""
    epochs: int = 3
    prediction_points: int = 4_000
    """Prediction points in the list ranker's window on which a trial is scored: half of their users choose the best
    trial, the others measure its gain."""


@dataclass(frozen=True)
class ReleaseCandidateConfig:
    """Configuration of the training pipeline. Equal inputs and an equal random seed give equal files."""

    random_seed: int = 0
    threads: int = 2
    text: TextConfig = field(default_factory=TextConfig)
    """For a release without a parent; a child keeps its parent's text transformer."""
    quantise_text: bool = True
    policy: Policy = field(default_factory=Policy)
    """Filters of serving: the list ranker trains on candidates that pass them."""
    layout: StateLayout = field(default_factory=lambda: StateLayout.from_settings(DEFAULTS))
    """What rankers keep of a user: lists, examples and evaluations read such states. See `for_rankers`."""
    co_visits: CoVisitRule = field(default_factory=CoVisitRule)
    session_knn: SessionKnnRule = field(default_factory=SessionKnnRule)
    """Of the baseline, and of the seed model where it is one."""
    user_knn: UserKnnRule = field(default_factory=UserKnnRule)
    """Of the baseline."""
    seed_models: Callable[[ReleaseCandidateConfig], list[SeedModel]] = field(
        default_factory=lambda: default_seed_models
    )
    """Seed models in addition to the co-visit model, which is always used."""
    left_out_seed_models: tuple[str, ...] = ()
    """Names of seed models that teach nothing. Without the co-visit model as a teacher, its table still serves."""
    search: SearchConfig | None = None
    """None: no hyperparameter search. Otherwise the search starts from this configuration."""
    dims: int = 64
    """Dimensions of user and item vectors of a release without a parent; a child keeps its parent's."""
    white_dims: int = 128
    """Leading whitened dimensions of the text vectors that the item encoder reads; a child keeps its parent's."""
    dropout: float = 0.2
    training: Training = field(default_factory=Training)
    strategies: tuple[Strategy, ...] = field(default_factory=lambda: (TextGeometry(), Replay(), RankDistillation()))
    list_ranker: ListRankerConfig = field(default_factory=ListRankerConfig)
    ranking_lists: int = 40_000
    """Expected number of prediction points with a training list; lists without the next item are dropped."""
    list_ranker_events: int = 50_000
    """Newest events of the list ranker's window that may have a list."""
    comparison_points: int = 2_000
    """Prediction points that compare the seed models with the shared ranking: at most this many, and at most a tenth of
    the list ranker's. Neither the parent nor the list ranker trains on them. 0: no comparison."""
    purchase: PurchaseConfig = field(default_factory=PurchaseConfig)
    keep_provisional: bool = False
    """Whether the result keeps the ranker whose candidates trained the list ranker, for measurements."""

    @property
    def rules(self) -> SlateRules:
        """What decides the slates besides the models."""
        return SlateRules(self.policy, self.layout)

    def for_rankers(self, settings: Settings) -> ReleaseCandidateConfig:
        """The same, for a release that rankers with these settings are to serve."""
        return replace(
            self,
            policy=Policy.from_settings(settings, self.policy.for_release),
            layout=StateLayout.from_settings(settings),
            co_visits=replace(self.co_visits, min_users=settings.min_pair_users),
        )

    def co_visit_model(self, texts: TextPrior) -> CoVisitModel:
        """An untrained co-visit model, whose table is published. `texts` are the catalogue's neighbours by text."""
        return CoVisitModel(self.co_visits, self.policy.co_visit_scoring, texts)

    def co_visit_seed_model(self, texts: TextPrior | None = None) -> CoVisitSeedModel:
        """The co-visit seed model, by the same rule. It learns from pairs of few users too, which are not published,
        and from at least as many neighbours as are. `texts`: see `CoVisitSeedModel`.
        """
        width = max(CoVisitSeedModel.width, self.policy.neighbours)
        return CoVisitSeedModel(self.co_visits, self.policy.co_visit_scoring, width=width, texts=texts)

    def all_seed_models(self, texts: TextPrior | None = None) -> list[SeedModel]:
        """The co-visit seed model and the configured ones, none of them fitted. `texts`: see `CoVisitSeedModel`."""
        return [self.co_visit_seed_model(texts), *self.seed_models(self)]

    @property
    def uses_seed_models(self) -> bool:
        """Whether a stage needs the configured seed models."""
        return self.comparison_points > 0 or self.distillation is not None

    @property
    def distillation(self) -> RankDistillation | None:
        """The strategy that needs teachers, if it is among the strategies."""
        return next((strategy for strategy in self.strategies if isinstance(strategy, RankDistillation)), None)


def default_seed_models(config: ReleaseCandidateConfig) -> list[SeedModel]:
    """One seed model of each kind that fits quickly."""
    return [
        AlsSeedModel(random_seed=config.random_seed, threads=config.threads),
        TextSeedModel(),
        SequenceSeedModel(random_seed=config.random_seed),
    ]
