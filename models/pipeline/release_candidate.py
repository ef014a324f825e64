"""The training pipeline: from events and items to the files of a release candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import save_file

from anabranch.co_visit.text_prior import NO_TEXTS, TextPrior
from anabranch.co_visit_rule import CoVisitRule
from anabranch.ranking.inference.item_encoder import item_text
from anabranch.ranking.pipeline.features import FEATURES
from anabranch.release import PURCHASE_HEAD, DataWindow, Manifest, Release, ReleasePolicy
from models.data.purchase_examples import NoPurchaseHead
from models.evaluation.seed_comparison import ComparisonPoints, SeedComparison, compare_seed_models
from models.networks.onnx_export import export_encoder, export_purchase_head
from models.networks.stored_names import stored_settings
from models.networks.text_adapter import adapt
from models.networks.text_transformer import TextConfig, export_text, load_transformer
from models.offline.candidate_coverage import CandidateCoverage
from models.offline.offline_ranker import OfflineRanker
from models.pipeline.catalogue import Catalogue
from models.pipeline.config import PipelineInputs, ReleaseCandidateConfig
from models.pipeline.encoder_stage import (
    ENCODER_WEIGHTS,
    FittedSeedModels,
    fine_tune,
    fit_seed_models,
    new_encoder,
    search_sharing,
    share,
)
from models.pipeline.hyperparameter_search import SearchResult
from models.pipeline.list_ranker_stage import (
    hold_out_points,
    provisional_ranker,
    train_list_ranker,
)
from models.pipeline.purchase_stage import UnseenMoments, hold_back, train_purchase_head, unseen_moments
from models.seeds.seed_model import SeedModel
from models.stages import Progress, Stages
from models.training_curves import Curve, Points, no_curve


@dataclass(frozen=True)
class ReleaseCandidate:
    """What the pipeline trained and measured; the files are in the folder it was given."""

    dims: int
    state_dims: int
    text_dims: int
    features: tuple[str, ...]
    seeds: tuple[str, ...]
    """Names of the seed models."""
    strategy: dict[str, Any]
    """Settings of training and sharing, as the manifest stores them."""
    parity: dict[str, float]
    """Largest absolute difference of each ONNX file to PyTorch; `scan`: of the step form to the parallel form."""
    measured: dict[str, float]
    """Losses and other training metrics by name; `order_lists`: the lists that trained the list ranker."""
    policy: ReleasePolicy
    co_visits: CoVisitRule
    """By which the co-visits are counted that its list ranker learned from."""
    heads: dict[str, dict[str, Any]]
    """Metrics of each optional head, by its name."""
    absent: dict[str, str]
    """Optional heads that the candidate lacks, each with the reason."""
    seconds: dict[str, float]
    """Wall time by stage."""
    curves: dict[str, Points]
    """Losses by step, thinned, by `STAGE/LOSS`."""
    candidates: CandidateCoverage
    """Where the list ranker's lists were made."""
    seed_comparison: SeedComparison | None
    """Each seed model compared with the shared ranking; None if it was not measured."""
    seed_models: Sequence[SeedModel] = ()
    """Those that it learned from, fitted to the events before the list ranker's window."""
    text_neighbours: TextPrior = NO_TEXTS
    """Of the items, with which its co-visits were counted."""
    provisional: OfflineRanker | None = None
    """The ranker whose candidates trained the list ranker, if the configuration keeps it."""

    def manifest(
        self, id: str, parent: str | None, created: int, window: DataWindow, files: dict[str, str]
    ) -> Manifest:
        """The manifest without the gate's metrics. `created` in ms; `files` maps file names to SHA-256 digests."""
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
            policy=self.policy,
            co_visits=self.co_visits,
        )


@dataclass(frozen=True)
class _PurchaseHead:
    """The purchase head's metrics and parity by file, or the reason why there is none."""

    metrics: dict[str, Any] | None = None
    parity: dict[str, float] | None = None
    absent: str | None = None


def make_release_candidate(
    inputs: PipelineInputs,
    folder: Path,
    *,
    cache: Path,
    config: ReleaseCandidateConfig | None = None,
    progress: Progress = lambda stage, share: None,
    curve: Curve = no_curve,
) -> ReleaseCandidate:
    """Train every model of a release and write all of its files except the manifest into `folder`.

    The order of the stages: text transformer, seed models, sharing into the encoder (on the events before the list
    ranker's window), list ranker and purchase head (on that window), fine-tuning of the encoder on that window.
    `cache` holds text vectors between runs. `curve` receives the losses, under names such as `sharing/loss_log`. Raises
    `NotEnoughData`, before or after some of the files are written, if the events do not suffice.
    """
    config = config or ReleaseCandidateConfig()
    torch.set_num_threads(config.threads)
    stages = Stages(progress, curve)
    folder.mkdir(parents=True, exist_ok=True)
    inputs = inputs.numbered_by_catalogue()

    _export_text_transformer(inputs, folder, config, stages)
    with stages("text vectors") as done:
        catalogue = Catalogue.read(inputs, folder, cache, config, done)
    seed_models = fit_seed_models(inputs, catalogue, config, stages)
    search = search_sharing(inputs, catalogue, seed_models, config, stages)
    config = config if search is None else search.config

    encoder = new_encoder(catalogue, inputs.parent, config)
    sharing_metrics = share(inputs, encoder, catalogue, seed_models, config, stages)
    export_encoder(encoder, folder)

    with stages("item index"):
        ranker = provisional_ranker(inputs, catalogue, seed_models.served_co_visits, folder, encoder.config, config)
    held_out = hold_out_points(inputs, config)
    list_ranker = train_list_ranker(inputs, held_out, ranker, folder, config, stages)
    comparison = _compare_seed_models(seed_models, list_ranker.ranker, held_out, stages)
    hold_back(encoder, inputs.log, folder)
    with stages("purchase moments"):
        moments = unseen_moments(inputs, catalogue, list_ranker.ranker, folder, config)
    purchase = _train_purchase_head(inputs, moments, folder, config, stages)

    window_data = catalogue.training_data(inputs.log, seed_models.teachers, inputs.order_from_ms)
    metrics = fine_tune(encoder, window_data, sharing_metrics, config, stages)
    save_file(encoder.state_dict(), folder / ENCODER_WEIGHTS)
    encoder_parity = export_encoder(encoder, folder)
    return ReleaseCandidate(
        dims=encoder.config.dims,
        state_dims=encoder.config.state_dims,
        text_dims=encoder.config.text_dims,
        features=FEATURES,
        seeds=tuple(model.name for model in seed_models.models),
        strategy=_stored_strategy(config, inputs.parent, search),
        parity=list_ranker.parity | (purchase.parity or {}) | encoder_parity,
        measured=metrics | {"order_lists": float(list_ranker.lists)},
        policy=config.policy.for_release,
        co_visits=config.co_visits,
        heads={} if purchase.metrics is None else {"purchase": purchase.metrics},
        absent={} if purchase.absent is None else {"purchase": purchase.absent},
        seconds=stages.seconds,
        curves=stages.curves.thinned(),
        candidates=list_ranker.candidates,
        seed_comparison=comparison,
        seed_models=seed_models.models,
        text_neighbours=catalogue.text_neighbours,
        provisional=ranker if config.keep_provisional else None,
    )


def _export_text_transformer(
    inputs: PipelineInputs, folder: Path, config: ReleaseCandidateConfig, stages: Stages
) -> None:
    """Write the text transformer: the parent's files if there is a parent."""
    with stages("text transformer") as done:
        if inputs.parent is None:
            texts = [item_text(item) for item in inputs.items]
            transformer = load_transformer(config.text.model)
            adapted = adapt(transformer, texts, inputs.before, config.text, config.random_seed, done)
            export_text(folder, config.quantise_text, adapted)
            return
        for name in ("text.onnx", "tokenizer.json"):
            (folder / name).write_bytes(inputs.parent.read(name))


def _compare_seed_models(
    seed_models: FittedSeedModels, shared: OfflineRanker, held_out: ComparisonPoints, stages: Stages
) -> SeedComparison | None:
    """Compare every seed model with the shared ranking; None without prediction points."""
    if not len(held_out.rows):
        return None
    with stages("what the seeds know") as done:
        return compare_seed_models(seed_models.models, shared, held_out, done)


def _train_purchase_head(
    inputs: PipelineInputs, moments: UnseenMoments, folder: Path, config: ReleaseCandidateConfig, stages: Stages
) -> _PurchaseHead:
    """Train and export the purchase head if the log has enough purchases; else keep the parent's, if it has one."""
    try:
        head, metrics = train_purchase_head(inputs.log, moments, config, stages)
    except NoPurchaseHead as error:
        return _parent_head(inputs.parent, folder, str(error))
    horizon_days = config.purchase.examples.horizon_days
    return _PurchaseHead(
        metrics={"horizon_days": horizon_days, **msgspec.to_builtins(metrics)},
        parity=export_purchase_head(head, folder),
    )


def _parent_head(parent: Release | None, folder: Path, reason: str) -> _PurchaseHead:
    """The parent's head, copied, with its own measurements and the reason; only the reason without one that fits."""
    if parent is None or PURCHASE_HEAD not in parent.manifest.files or tuple(parent.manifest.features) != FEATURES:
        return _PurchaseHead(absent=reason)
    (folder / PURCHASE_HEAD).write_bytes(parent.read(PURCHASE_HEAD))
    metrics = {"trained_by": parent.manifest.id} | parent.manifest.heads["purchase"] | {"kept_because": reason}
    return _PurchaseHead(metrics=metrics, parity={PURCHASE_HEAD: parent.manifest.parity[PURCHASE_HEAD]})


def _stored_strategy(
    config: ReleaseCandidateConfig, parent: Release | None, search: SearchResult | None
) -> dict[str, Any]:
    """The manifest's record of training and sharing. A child names its parent's text transformer, which it keeps."""
    text = stored_settings(config.text if parent is None else TextConfig())
    if parent is not None:
        text = parent.manifest.strategy.get("text", text)
    names = [strategy.name for strategy in config.strategies]
    if text["adapter"] != "none":
        names.insert(0, f"text_{text['adapter']}")
    stored = {
        "name": "+".join(names) or "log_only",
        "text": text,
        "training": stored_settings(config.training),
        **{strategy.name: strategy.describe() for strategy in config.strategies},
    }
    return stored if search is None else stored | {"search": search.describe()}
