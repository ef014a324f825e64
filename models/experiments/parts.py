"""The parts of a ranking that can be taken out, to measure what each of them adds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from anabranch.errors import UsageError
from anabranch.messages import Item
from anabranch.ranking.inference.item_encoder import item_text
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.retrieval.item_index import ItemIndex
from models.experiments.benchmark import OfflineBenchmark
from models.experiments.choices import EACH_PART
from models.networks.text_transformer import TextConfig
from models.offline.offline_ranker import OfflineRanker
from models.pipeline.config import ReleaseCandidateConfig
from models.sharing.strategies.replay import Replay
from models.sharing.strategies.text_geometry import TextGeometry
from models.sharing.strategy import Strategy

LEARNED_ORDER = "learned_order"
SEED = "seed:"
"""Prefix of the names of seed models, because a strategy may have the same name."""


@dataclass(frozen=True)
class ServedPart:
    """A part that serving can do without: the encoder stays, and the list ranker is trained again without the part."""

    name: str
    take_out: Callable[[OfflineRanker], OfflineRanker]


@dataclass(frozen=True)
class TrainedPart:
    """A part of the training: without it, all of the release is trained again."""

    name: str
    take_out: Callable[[OfflineBenchmark], OfflineBenchmark]


@dataclass(frozen=True)
class LearnedOrder:
    """The list ranker: without it, candidates are ordered by the fixed weights of the bootstrap release."""

    name: str = LEARNED_ORDER


Part = ServedPart | TrainedPart | LearnedOrder


def choose_parts(names: str, benchmark: OfflineBenchmark) -> list[Part]:
    """The named parts, separated by commas, or `each` that this training uses. Raises `UsageError` for other names."""
    if benchmark.config.search is not None:
        raise UsageError("--without takes parts out of the preset: leave --search-seconds out, which changes them")
    parts = {part.name: part for part in parts_of(benchmark)}
    if names.strip() == EACH_PART:
        return list(parts.values())
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",")))
    unknown = [name for name in chosen if name not in parts]
    if unknown:
        raise UsageError(
            f"--without: the ranking of this data has no part {', '.join(map(repr, unknown))}; it has "
            f"{', '.join(parts)}, or `{EACH_PART}` of them"
        )
    return [parts[name] for name in chosen]


def parts_of(benchmark: OfflineBenchmark) -> Iterator[Part]:
    """Every part that the release of a benchmark uses."""
    config = benchmark.config
    yield ServedPart("encoder", without_encoder)
    yield ServedPart("neighbours", without_neighbours)
    if not config.policy.exclude_seen:
        yield ServedPart("own_items", without_own_items)
    yield LearnedOrder()
    has_texts = any(item_text(item) for item in benchmark.items)
    if has_texts:
        yield TrainedPart("texts", without_texts)
    yield from _parts_of_training(config, has_texts)


def without_encoder(ranker: OfflineRanker) -> OfflineRanker:
    """No item is retrieved by its vector, and every feature of vectors is 0: all item vectors are 0."""
    old = ranker.live.index.columns
    rows = np.flatnonzero(old.known).astype(np.int32)
    index = ItemIndex(ranker.live.index.dims)
    vectors = np.zeros((len(rows), index.dims), np.float32)
    index.upsert(rows, vectors, old.servable[rows], old.hashes[rows], ranker.live.index.attributes(rows))
    return replace(ranker, live=replace(ranker.live, index=index), policy=replace(ranker.policy, retrieval_k=0))


def without_neighbours(ranker: OfflineRanker) -> OfflineRanker:
    """No item is proposed or scored as a co-visited neighbour; popularity and repeat rates stay."""
    columns, neighbours = ranker.neighbours.columns, CoVisitRows(ranker.neighbours.width)
    neighbours.columns = columns._replace(rows=np.full_like(columns.rows, -1), weights=np.zeros_like(columns.weights))
    return replace(ranker, neighbours=neighbours)


def without_own_items(ranker: OfflineRanker) -> OfflineRanker:
    """No item that its user has had an event about is ranked."""
    return replace(ranker, policy=replace(ranker.policy, exclude_seen=True))


def without_texts(benchmark: OfflineBenchmark) -> OfflineBenchmark:
    """All items have ids and domains only."""
    return replace(benchmark, items=[_without_text(item) for item in benchmark.items])


def _without_text(item: Item) -> Item:
    return msgspec.structs.replace(item, title="", brand=None, category=[], description=None)


def _parts_of_training(config: ReleaseCandidateConfig, has_texts: bool) -> Iterator[TrainedPart]:
    if config.text.adapter != "none":
        yield _configured("text_adapter", lambda config: replace(config, text=_not_adapted(config.text)))
    for strategy in config.strategies:
        if _does_something(strategy, has_texts):
            yield _without_strategy(strategy.name)
    if config.uses_seed_models:
        for name in ("co_visit", *(model.name for model in config.seed_models(config))):
            yield _without_seed_model(name)


def _does_something(strategy: Strategy, has_texts: bool) -> bool:
    """Whether a strategy changes a first release."""
    if isinstance(strategy, TextGeometry):
        return has_texts
    return not isinstance(strategy, Replay) or strategy.first


def _configured(name: str, change: Callable[[ReleaseCandidateConfig], ReleaseCandidateConfig]) -> TrainedPart:
    return TrainedPart(name, lambda benchmark: replace(benchmark, config=change(benchmark.config)))


def _not_adapted(text: TextConfig) -> TextConfig:
    return replace(text, adapter="none")


def _without_strategy(name: str) -> TrainedPart:
    def change(config: ReleaseCandidateConfig) -> ReleaseCandidateConfig:
        return replace(config, strategies=tuple(strategy for strategy in config.strategies if strategy.name != name))

    return _configured(name, change)


def _without_seed_model(name: str) -> TrainedPart:
    def change(config: ReleaseCandidateConfig) -> ReleaseCandidateConfig:
        return replace(config, left_out_seed_models=(*config.left_out_seed_models, name))

    return _configured(f"{SEED}{name}", change)
