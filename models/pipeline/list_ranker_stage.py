"""Second half of the training pipeline: the list ranker, trained on candidates of the serving core.

It reads features of the exported encoder files, computed by the code that serves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.torch import load as load_weights
from safetensors.torch import save_file

from anabranch.co_visit.table import CoVisitTable
from anabranch.input_files.times import as_iso
from anabranch.ranking.inference.list_ranker import OnnxListRanker
from anabranch.ranking.pipeline.features import FEATURES
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.release import DataWindow, Manifest, Release, UnverifiedRelease
from models.data.event_log import EventLog, NotEnoughData
from models.evaluation.seed_comparison import ComparisonPoints, draw_prediction_points
from models.networks.encoder import EncoderConfig
from models.networks.list_ranker import ListRanker, fit_list_ranker
from models.networks.onnx_export import export_list_ranker
from models.offline.candidate_coverage import CandidateCoverage
from models.offline.offline_ranker import OfflineRanker, index_catalogue, neighbour_table
from models.offline.ranking_lists import ListSample, ranking_lists
from models.pipeline.catalogue import Catalogue
from models.pipeline.config import PipelineInputs, ReleaseCandidateConfig
from models.stages import Stages

LIST_RANKER_WEIGHTS = "order.safetensors"
"""File of the list ranker's weights, from which a child's list ranker starts."""


@dataclass(frozen=True)
class ListRankerResult:
    """A trained list ranker in the release's folder."""

    ranker: OfflineRanker
    """Ranks with it."""
    parity: dict[str, float]
    """Largest absolute difference of the ONNX file to PyTorch, by file."""
    lists: int
    """Lists that it was trained on."""
    candidates: CandidateCoverage
    """At the events whose lists were wanted."""


def provisional_ranker(
    inputs: PipelineInputs,
    catalogue: Catalogue,
    co_visit: CoVisitTable,
    folder: Path,
    encoder: EncoderConfig,
    config: ReleaseCandidateConfig,
) -> OfflineRanker:
    """The folder's encoder as a servable release: every item indexed, and an untrained list ranker."""
    export_list_ranker(ListRanker(len(FEATURES), config.list_ranker.hidden), folder)
    return load_ranker(inputs, catalogue, co_visit, folder, encoder, config)


def load_ranker(
    inputs: PipelineInputs,
    catalogue: Catalogue,
    co_visit: CoVisitTable,
    folder: Path,
    encoder: EncoderConfig,
    config: ReleaseCandidateConfig,
) -> OfflineRanker:
    """The folder's encoder and list ranker as a servable release: every item indexed."""
    live = ServableRelease.load(UnverifiedRelease(folder), _provisional_manifest(encoder), threads=config.threads)
    item_ids = ItemVocabulary()
    index_catalogue(live, item_ids, inputs.items, catalogue.text_vectors)
    neighbours = neighbour_table(co_visit, item_ids, inputs.log, config.policy.neighbours)
    changes = inputs.catalogue.encoded(live, item_ids, catalogue.version_text_vectors)
    return OfflineRanker(live, neighbours, item_ids, config.policy, config.layout, catalogue=changes)


def hold_out_points(inputs: PipelineInputs, config: ReleaseCandidateConfig) -> ComparisonPoints:
    """Draw prediction points in the list ranker's window on which neither it nor the parent is trained."""
    start = _first_list_row(inputs, config)
    if inputs.parent is not None:
        start = max(start, int(np.searchsorted(inputs.log.ts, inputs.parent.manifest.window.gate_from)))
    rows = draw_prediction_points(inputs.log, start, config.comparison_points, config.random_seed)
    return ComparisonPoints(inputs.log, inputs.order_from_row, rows, [item.domain for item in inputs.items])


def train_list_ranker(
    inputs: PipelineInputs,
    held_out: ComparisonPoints,
    ranker: OfflineRanker,
    folder: Path,
    config: ReleaseCandidateConfig,
    stages: Stages,
) -> ListRankerResult:
    """Train the list ranker on lists of the provisional `ranker`, and export it to the folder.

    Raises `NotEnoughData` if no list has the item that its user chose next.
    """
    start = _first_list_row(inputs, config)
    sample = ListSample(start, held_out.rows, config.ranking_lists, config.random_seed)
    events = max(len(inputs.log), 1)
    with stages("order lists") as done:
        sampled = ranking_lists(ranker, inputs.log, sample, lambda n: done(n / events))
    lists = sampled.lists
    if not len(lists):
        raise _nothing_to_order(inputs.after, config.policy)
    trained, curve = max(len(lists) * config.list_ranker.epochs, 1), stages.curves.for_stage("order")
    parent = _parent_list_ranker(inputs.parent)
    with stages("order") as done:
        network = fit_list_ranker(
            lists, config.list_ranker, config.random_seed, lambda n: done(n / trained), curve, parent
        )
    save_file(network.state_dict(), folder / LIST_RANKER_WEIGHTS)
    parity = export_list_ranker(network, folder)
    served = OnnxListRanker(UnverifiedRelease(folder), config.threads)
    trained_ranker = replace(ranker, live=replace(ranker.live, order=served))
    return ListRankerResult(trained_ranker, parity, len(lists), sampled.proposed.coverage())


def _nothing_to_order(window: EventLog, policy: Policy) -> NotEnoughData:
    users = len(np.unique(window.user))
    repeats = "" if policy.allow_session_repeats else ", or --kind sessions if users return to items within a session"
    return NotEnoughData(
        "there is nothing to learn the order of candidates from: in the list ranker's window, from "
        f"{as_iso(int(window.ts[0]))} to {as_iso(int(window.ts[-1]))}, {users:,} users have {len(window):,} events, "
        "and none is about an item that was a candidate after the user's event before. Give more events of users who "
        f"come back, or a longer window (`reshare --order-days`){repeats}"
    )


def _first_list_row(inputs: PipelineInputs, config: ReleaseCandidateConfig) -> int:
    """Row of the first event that may have a training list."""
    return max(inputs.order_from_row, len(inputs.log) - config.list_ranker_events)


def _parent_list_ranker(parent: Release | None) -> ListRanker | None:
    """The parent's list ranker; None without a parent, or if the parent's reads other features."""
    if parent is None or LIST_RANKER_WEIGHTS not in parent.manifest.files:
        return None
    if tuple(parent.manifest.features) != FEATURES:
        return None
    weights = load_weights(parent.read(LIST_RANKER_WEIGHTS))
    network = ListRanker(len(FEATURES), len(weights["enter.weight"]))
    network.load_state_dict(weights)
    return network


def _provisional_manifest(encoder: EncoderConfig) -> Manifest:
    return Manifest(
        id="provisional",
        parent=None,
        created=0,
        dims=encoder.dims,
        state_dims=encoder.state_dims,
        text_dims=encoder.text_dims,
        features=list(FEATURES),
        seeds=[],
        strategy={},
        window=DataWindow(train_from=0, order_from=0, gate_from=0, gate_to=0, events=0),
        parity={},
        gate={},
        files={},
    )
