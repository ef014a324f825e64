"""A candidate for release: seeds, encoder and order made from a log, in a folder that meets the contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from safetensors.torch import load as load_weights
from safetensors.torch import save_file

from anabranch.messages import Item
from anabranch.ranking.inference.item_encoder import item_text
from anabranch.ranking.inference.user_encoder import Order as ServedOrder
from anabranch.ranking.pipeline.features import FEATURES
from anabranch.ranking.pipeline.servable import LiveRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.vocabulary import ItemIds
from anabranch.release import DataWindow, Draft, Manifest, Release
from models.co_visit.rule import CoVisitRule
from models.co_visit.table import CoVisitTable
from models.data.event_log import EventLog
from models.data.purchase_examples import NoPurchaseHead
from models.data.sequences import Positions, Sequences
from models.evaluation.seed_knowledge import SeedsKnown, draw_moments, seeds_known
from models.metrics.calibration import PurchaseMetrics
from models.networks.encoder import EncoderConfig, SharedEncoder, stored_dims
from models.networks.list_ranker import ListRanker, ListRankerConfig, fit_list_ranker
from models.networks.onnx_export import export_encoder, export_list_ranker, export_purchase_head
from models.networks.purchase_head import PurchaseClassifier, PurchaseConfig, fit_purchase_head
from models.networks.stored_names import stored_settings
from models.networks.text_adapter import adapt
from models.networks.text_transformer import TextConfig, export_text, load_transformer
from models.offline.offline_ranker import OfflineRanker, neighbour_table
from models.offline.purchase_examples import purchase_examples
from models.offline.ranking_lists import ListSample, ranking_lists
from models.pipeline.catalogue import Catalogue
from models.pipeline.hyperparameter_search import Chosen, Judge, Search, search
from models.seeds.als import AlsSeedModel
from models.seeds.co_visit import CoVisitSeedModel
from models.seeds.seed_model import SeedModel
from models.seeds.sequence import SequenceSeedModel
from models.seeds.text import TextSeedModel
from models.sharing.strategies.rank_distillation import RankDistillation
from models.sharing.strategies.replay import Replay
from models.sharing.strategies.text_geometry import TextGeometry
from models.sharing.strategy import Strategy, TrainingData
from models.sharing.training import Training, TrainingObserver, train
from models.stages import Done, Progress, Stages
from models.training_curves import Curve, Points, no_curve

WEIGHTS = "encoder.safetensors"
"""The encoder's weights, for the child that starts from them."""
ORDER_WEIGHTS = "order.safetensors"
"""The order's, likewise."""

SEARCHED_SHARE = 0.8
"""Of what is fresh, so much is learned by the search's trials for a child, which are judged on the rest."""


@dataclass(frozen=True)
class CandidateConfig:
    """How a candidate is made. Equal inputs and an equal seed make equal files."""

    seed: int = 0
    threads: int = 2
    text: TextConfig = field(default_factory=TextConfig)
    """Of a first release; its children keep its text transformer."""
    quantise_text: bool = True
    policy: Policy = field(default_factory=Policy)
    """What may be shown: the order learns from lists that passed the same filters."""
    co_visits: CoVisitRule = field(default_factory=CoVisitRule)
    seeds: Callable[[CandidateConfig], list[SeedModel]] = field(default_factory=lambda: default_seeds)
    """Beside the co-visit table, which always teaches."""
    search: Search | None = None
    """Look for the sharing that suits the data first, from this config on."""
    dims: int = 64
    """Of user and item vectors. Of a first release, as `text` is: its children keep their parent's sizes."""
    white_dims: int = 128
    """Leading directions of the text vectors that the item vectors are made from."""
    dropout: float = 0.2
    training: Training = field(default_factory=Training)
    strategies: tuple[Strategy, ...] = field(default_factory=lambda: (TextGeometry(), Replay(), RankDistillation()))
    order: ListRankerConfig = field(default_factory=ListRankerConfig)
    order_lists: int = 40_000
    """Moments that lists are made for; those that miss what came are left out."""
    order_events: int = 50_000
    """Newest events of the order's window that are gone through for lists."""
    seed_moments: int = 2_000
    """Moments that measure what each seed knows, a tenth of those events at most. The parent has not learned what came
    then, nor does the order. 0: nothing is measured."""
    purchase: PurchaseConfig = field(default_factory=PurchaseConfig)

    @property
    def asks_seeds(self) -> bool:
        """Whether anything asks the seeds what they would show."""
        return self.seed_moments > 0 or any(isinstance(one, RankDistillation) for one in self.strategies)


@dataclass(frozen=True)
class CandidateReport:
    """What the manifest wants to know of a candidate, and what a person does."""

    dims: int
    state_dims: int
    text_dims: int
    features: tuple[str, ...]
    seeds: tuple[str, ...]
    strategy: dict[str, Any]
    parity: dict[str, float]
    """Largest absolute difference of each ONNX file to PyTorch; `scan`: of the step form to the parallel form."""
    measured: dict[str, float]
    """Losses and teacher weights of the sharing, lists the order learned from."""
    heads: dict[str, dict[str, Any]]
    """What was measured of each optional head, by name."""
    absent: dict[str, str]
    """Why the candidate lacks an optional head, by name."""
    seconds: dict[str, float]
    """Wall time by stage."""
    curves: dict[str, Points]
    """Losses by step, thinned, by `STAGE/LOSS`."""
    seeds_known: SeedsKnown | None
    """What every seed knows, and what sharing added; None where it was not measured."""

    def manifest(
        self, id: str, parent: str | None, created: int, window: DataWindow, files: dict[str, str]
    ) -> Manifest:
        """The candidate's manifest, but for the gate's numbers. `created` in ms, `files` with their digests."""
        return Manifest(
            id=id,
            parent=parent,
            created=created,
            dims=self.dims,
            state_dims=self.state_dims,
            text_dims=self.text_dims,
            features=list(self.features),
            seeds=list(self.seeds),
            strategy=self.strategy | {"measured": self.measured, "seconds": self.seconds},
            window=window,
            parity=self.parity,
            gate={},
            files=files,
            heads=self.heads,
        )


def make_candidate(
    log: EventLog,
    items: Sequence[Item],
    parent: Release | None,
    folder: Path,
    *,
    order_from: int,
    cache: Path,
    config: CandidateConfig | None = None,
    new_since_ms: int = 0,
    purchases_from: int | None = None,
    progress: Progress = lambda stage, share: None,
    curve: Curve = no_curve,
) -> CandidateReport:
    """Write all files of a release but its manifest into `folder`.

    Events before `order_from` (ms) teach seeds and encoder; those after it the order, so that the order sees the
    encoder's vectors as they are on days the encoder has not seen. Then the encoder catches up with those days. With a
    `parent` encoder and order start from its weights, and only what came since `new_since_ms` is new to them: where
    that is what teaches the order, the order sees the parent's vectors, as stale as they were while they served. The
    purchase head learns from `purchases_from` (ms) on, which is `order_from` unless told otherwise: it needs more days
    than its horizon, and takes in their place some that the encoder has seen. `cache` keeps text vectors between runs.
    `curve` is told of the losses, by names such as `sharing/loss_log`.
    """
    config = config or CandidateConfig()
    torch.set_num_threads(config.threads)
    stages = Stages(progress, curve)
    folder.mkdir(parents=True, exist_ok=True)
    log = log.renumbered([item.item_id for item in items])
    before, after = log.split(order_from)
    with stages("text transformer") as done:
        _text_transformer(items, before, parent, folder, config, done)
    with stages("text vectors") as done:
        catalogue = Catalogue.read(items, log, parent, folder, cache, config.threads, done)
    seeds, table = _fit_seeds(before, catalogue, config, stages)
    chosen = _search(log, before, order_from, catalogue, seeds, parent, new_since_ms, config, stages)
    config = config if chosen is None else chosen.config
    encoder = _encoder(catalogue, parent, config)
    learned: dict[str, float] = {}
    if parent is None or new_since_ms < order_from:
        training_data = catalogue.training_data(before, seeds, new_since_ms if parent else 0)
        learned = _train("sharing", encoder, training_data, config, stages)
    export_encoder(encoder, folder)
    ranker = _provisional(before, catalogue, table, encoder, folder, config, stages)
    order_start = len(log) - min(len(after), config.order_events)
    unseen_from = max(order_start, 0 if parent is None else _row_at(log, parent.manifest.window.gate_from))
    held_out = draw_moments(log, unseen_from, config.seed_moments, config.seed)
    order, lists = _fit_order(log, order_start, held_out, ranker, _order_of(parent), config, stages)
    save_file(order.state_dict(), folder / ORDER_WEIGHTS)
    parity = export_list_ranker(order, folder)
    known = None
    if len(held_out):
        with stages("what the seeds know") as done:
            shared = replace(ranker, live=replace(ranker.live, order=ServedOrder(Draft(folder), config.threads)))
            domains = [item.domain for item in items]
            known = seeds_known(seeds, shared, log, len(before), held_out, domains, done)
    heads: dict[str, dict[str, Any]] = {}
    absent: dict[str, str] = {}
    try:
        head, figures = _fit_purchase(log, purchases_from or order_from, ranker, config, stages)
        parity |= export_purchase_head(head, folder)
        heads["purchase"] = _described(figures, config.purchase)
    except NoPurchaseHead as error:
        absent["purchase"] = str(error)
    training_data = catalogue.training_data(log, seeds, order_from)
    caught_up = _train("catching up" if learned else "sharing", encoder, training_data, config, stages)
    save_file(encoder.state_dict(), folder / WEIGHTS)
    parity |= export_encoder(encoder, folder)
    return CandidateReport(
        dims=encoder.config.dims,
        state_dims=encoder.config.state_dims,
        text_dims=encoder.config.text_dims,
        features=FEATURES,
        seeds=tuple(seed.name for seed in seeds),
        strategy=_strategy(config, parent) | ({} if chosen is None else {"search": chosen.describe()}),
        parity=parity,
        measured=_measured(learned, caught_up) | {"order_lists": float(lists)},
        heads=heads,
        absent=absent,
        seconds=stages.seconds,
        curves=stages.curves.thinned(),
        seeds_known=known,
    )


def _text_transformer(
    items: Sequence[Item], before: EventLog, parent: Release | None, folder: Path, config: CandidateConfig, done: Done
) -> None:
    """The text transformer into the folder: the parent's if there is one."""
    if parent is None:
        texts = [item_text(item) for item in items]
        transformer = adapt(load_transformer(config.text.model), texts, before, config.text, config.seed, done)
        export_text(folder, config.quantise_text, transformer)
        return
    for name in ("text.onnx", "tokenizer.json"):
        (folder / name).write_bytes(parent.read(name))


def _strategy(config: CandidateConfig, parent: Release | None) -> dict[str, Any]:
    """For the manifest. A child's texts are read by its parent's transformer, whatever adapted that one."""
    text = (
        stored_settings(config.text)
        if parent is None
        else parent.manifest.strategy.get("text", stored_settings(TextConfig()))
    )
    names = [strategy.name for strategy in config.strategies]
    if text["adapter"] != "none":
        names.insert(0, f"text_{text['adapter']}")
    return {
        "name": "+".join(names) or "log_only",
        "text": text,
        "training": stored_settings(config.training),
        **{strategy.name: strategy.describe() for strategy in config.strategies},
    }


def default_seeds(config: CandidateConfig) -> list[SeedModel]:
    """One of each kind that is quick to fit, beside the co-visit table."""
    return [
        AlsSeedModel(random_seed=config.seed, threads=config.threads),
        TextSeedModel(),
        SequenceSeedModel(random_seed=config.seed),
    ]


def _fit_seeds(
    log: EventLog, catalogue: Catalogue, config: CandidateConfig, stages: Stages
) -> tuple[list[SeedModel], CoVisitTable]:
    """All seeds that are asked, fitted, and the co-visit table that the first of them teaches from; it is always."""
    co_visit = CoVisitSeedModel(config.co_visits, width=max(CoVisitSeedModel.width, config.policy.neighbours))
    seeds: list[SeedModel] = [co_visit, *(config.seeds(config) if config.asks_seeds else ())]
    for seed in seeds:
        with stages(f"seed {seed.name}") as done:
            seed.fit(log, catalogue.text_vectors, done)
    assert co_visit.table is not None
    return seeds, co_visit.table


def _search(
    log: EventLog,
    before: EventLog,
    order_from: int,
    catalogue: Catalogue,
    seeds: Sequence[SeedModel],
    parent: Release | None,
    new_since_ms: int,
    config: CandidateConfig,
    stages: Stages,
) -> Chosen | None:
    """The sharing that suits the data, None where nobody asked for a search."""
    if config.search is None:
        return None
    random = np.random.default_rng(config.seed)
    if parent is not None and new_since_ms >= order_from:  # something fresh must be left to learn from
        order_from = log.between(new_since_ms, int(log.ts[-1]) + 1).time_at(SEARCHED_SHARE)
        before = log.split(order_from)[0]
    judge = Judge.of(Sequences.from_log(log), order_from, config.search.moments, config.policy.exclude_seen, random)
    training_data = catalogue.training_data(before.last(config.search.events), seeds, new_since_ms if parent else 0)
    with stages("search") as done:
        return search(config, training_data, judge, lambda one: _encoder(catalogue, parent, one), config.search, done)


def _encoder(catalogue: Catalogue, parent: Release | None, config: CandidateConfig) -> SharedEncoder:
    """A new encoder, or the parent's with room for items it had not learned."""
    torch.manual_seed(config.seed)
    weights = None if parent is None else load_weights(parent.read(WEIGHTS))
    dims, white_dims = (config.dims, config.white_dims) if weights is None else stored_dims(weights)
    text_dims = catalogue.text_vectors.shape[1]
    encoder = SharedEncoder(
        EncoderConfig(len(catalogue.learned) + 1, text_dims, white_dims, dims, dropout=config.dropout)
    )
    if weights is not None:
        encoder.inherit(weights)
    return encoder


def _train(
    stage: str, encoder: SharedEncoder, training_data: TrainingData, config: CandidateConfig, stages: Stages
) -> dict[str, float]:
    with stages(stage) as done:
        told = stages.curves.of(stage)
        return train(
            encoder, training_data, config.strategies, config.training, config.seed, TrainingObserver(done, told)
        )


def _measured(learned: dict[str, float], caught_up: dict[str, float]) -> dict[str, float]:
    """What the trainings measured: all of the first, and of the second, if there were two, the losses."""
    if not learned:
        return caught_up
    return learned | {f"{name}_catching_up": loss for name, loss in caught_up.items() if name.startswith("loss")}


def _order_of(parent: Release | None) -> ListRanker | None:
    """The parent's order, to start from; None where there is none, or one for other features."""
    if parent is None or ORDER_WEIGHTS not in parent.manifest.files or tuple(parent.manifest.features) != FEATURES:
        return None
    weights = load_weights(parent.read(ORDER_WEIGHTS))
    order = ListRanker(len(FEATURES), len(weights["enter.weight"]))
    order.load_state_dict(weights)
    return order


def _fit_order(
    log: EventLog,
    start: int,
    held_out: Positions,
    ranker: OfflineRanker,
    of_parent: ListRanker | None,
    config: CandidateConfig,
    stages: Stages,
) -> tuple[ListRanker, int]:
    """The order, learned from lists that the serving core makes of the exported encoder; and how many lists.

    The lists are of events from `start` on, but for those at the rows `held_out`.
    """
    with stages("order lists") as done:
        sample = ListSample(start, held_out, config.order_lists, config.seed)
        lists = ranking_lists(ranker, log, sample, lambda n: done(n / max(len(log), 1)))
    with stages("order") as done:
        learned, told = max(len(lists) * config.order.epochs, 1), stages.curves.of("order")
        order = fit_list_ranker(lists, config.order, config.seed, lambda n: done(n / learned), told, of_parent)
        return order, len(lists)


def _row_at(log: EventLog, ts: int) -> int:
    """The first row from a time (ms) on."""
    return int(np.searchsorted(log.ts, ts))


def _fit_purchase(
    log: EventLog, learn_from: int, ranker: OfflineRanker, config: CandidateConfig, stages: Stages
) -> tuple[PurchaseClassifier, PurchaseMetrics]:
    """The purchase head, and what was measured of it. Raises `NoPurchaseHead` where the log teaches none."""
    before, after = log.split(learn_from)
    events, asked = max(len(log), 1), config.purchase.examples
    with stages("purchase examples") as done:
        examples = purchase_examples(ranker, before, after, asked, config.seed, lambda n: done(n / events))
    with stages("purchase head") as done:
        learned, told = max(len(examples) * config.purchase.epochs, 1), stages.curves.of("purchase head")
        return fit_purchase_head(examples, config.purchase, config.seed, lambda n: done(n / learned), told)


def _described(figures: PurchaseMetrics, config: PurchaseConfig) -> dict[str, Any]:
    """For the manifest: what a probability is of, and how good it is."""
    measured: dict[str, Any] = msgspec.to_builtins(figures)
    return {"horizon_days": config.examples.horizon_days, **measured}


def _provisional(
    before: EventLog,
    catalogue: Catalogue,
    table: CoVisitTable,
    encoder: SharedEncoder,
    folder: Path,
    config: CandidateConfig,
    stages: Stages,
) -> OfflineRanker:
    """The folder as it would serve, with an order that has learned nothing yet and an index of the catalogue."""
    with stages("item index"):
        export_list_ranker(ListRanker(len(FEATURES), config.order.hidden), folder)
        live = LiveRelease.load(Draft(folder), _provisional_manifest(encoder), threads=config.threads)
        item_ids = ItemIds()
        rows = item_ids.rows(catalogue.item_ids)
        vectors = live.item.encode(catalogue.item_ids, catalogue.text_vectors)
        live.index.upsert(rows, vectors, np.ones(len(rows), np.bool_))
        live.index.rebuild()
        neighbours = neighbour_table(table, item_ids, before, config.policy.neighbours)
        return OfflineRanker(live, neighbours, item_ids, config.policy)


def _provisional_manifest(encoder: SharedEncoder) -> Manifest:
    return Manifest(
        id="provisional",
        parent=None,
        created=0,
        dims=encoder.config.dims,
        state_dims=encoder.config.state_dims,
        text_dims=encoder.config.text_dims,
        features=list(FEATURES),
        seeds=[],
        strategy={},
        window=DataWindow(train_from=0, order_from=0, gate_from=0, gate_to=0, events=0),
        parity={},
        gate={},
        files={},
    )
