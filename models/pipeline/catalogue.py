"""The catalogue as the pipeline trains on it: text vector, domain and residual number of every item; and searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from anabranch.co_visit import text_prior
from anabranch.co_visit.text_prior import NO_TEXTS, TextPrior
from anabranch.co_visit_rule import CoVisitRule
from anabranch.messages import Item
from anabranch.ranking.inference.item_encoder import item_numbers, item_text
from anabranch.ranking.types import Vectors
from anabranch.release import Release
from models.co_visit.text_neighbours import text_neighbours
from models.data.event_log import EventLog
from models.data.sequences import Sequences
from models.networks.text_transformer import text_vectors
from models.pipeline.config import PipelineInputs, ReleaseCandidateConfig
from models.sharing.strategy import TrainingData
from models.sharing.teachers import Teachers
from models.stages import Done

ITEMS = "items.json"
"""File of the number, from 1 on, of every item with a learned residual."""
DOMAINS = "domains.json"
"""File of the number, from 1 on, of every domain; a child's adapters need it. Written only if items have domains."""
QUERY_CACHE = "queries"
"""Folder, within that of the text vectors of items, for those of searches: who serves reads the former only, and people
search for more texts than a shop sells."""


@dataclass(frozen=True)
class Catalogue:
    """C items, and the texts of Q searches. Item and query numbers of the pipeline's log are rows of them."""

    item_ids: tuple[str, ...]
    text_vectors: NDArray[np.float32]  # [C, T]
    version_text_vectors: NDArray[np.float32]
    """[n, T], of the n versions of the items that changed while the events happened."""
    domains: NDArray[np.int64] | None  # [C], from 1 on, 0: none; None: no item has one
    numbers: dict[str, int]
    """Item id → number of its residual. A child's items keep their parent's numbers; new ones follow."""
    child: bool
    query_vectors: NDArray[np.float32] | None = None  # [Q, T]; None: the log has no searches
    text_neighbours: TextPrior = NO_TEXTS
    """Of the C items, which every count of their co-visits has; none if the rule of co-visits has no `text_prior`."""

    @classmethod
    def read(
        cls, inputs: PipelineInputs, folder: Path, cache: Path, config: ReleaseCandidateConfig, done: Done
    ) -> Self:
        """Encode all texts, of searches too, by the folder's text transformer, and number the items of the log.

        Writes the numbers of items and domains, and the neighbours by text, into `folder`. `cache` holds text vectors
        between runs.
        """
        texts = [*map(item_text, inputs.items), *inputs.catalogue.texts]
        queries = inputs.log.queries
        unique = max(len(set(texts)) + len(queries), 1)

        def embed(texts: Sequence[str], cache: Path) -> Vectors:
            return text_vectors(texts, folder, cache, config.threads, lambda n: done(n / unique))

        vectors = embed(texts, cache)
        query_vectors = embed(queries, cache / QUERY_CACHE) if queries else None
        item_ids = tuple(item.item_id for item in inputs.items)
        of_items, of_versions = vectors[: len(item_ids)], vectors[len(item_ids) :]
        return cls(
            item_ids=item_ids,
            text_vectors=of_items,
            version_text_vectors=of_versions,
            domains=_number_domains(inputs.items, inputs.parent, folder),
            numbers=_number_items(inputs, item_ids, folder),
            child=inputs.parent is not None,
            query_vectors=query_vectors,
            text_neighbours=_find_text_neighbours(item_ids, of_items, config.co_visits, folder),
        )

    def training_data(self, log: EventLog, teachers: Teachers | None, new_since_ms: int) -> TrainingData:
        """What an encoder is trained on, from a part of the pipeline's log with its searches. `new_since_ms`: see
        `TrainingData`."""
        return TrainingData(
            sequences=Sequences.with_searches(log),
            text_vectors=torch.from_numpy(self.text_vectors),
            numbers=np.array([self.numbers.get(item_id, 0) for item_id in self.item_ids], np.int64),
            teachers=teachers,
            new_since_ms=new_since_ms,
            child=self.child,
            domains=self.domains,
            query_vectors=None if self.query_vectors is None else torch.from_numpy(self.query_vectors),
        )


def _find_text_neighbours(item_ids: Sequence[str], text_vectors: Vectors, rule: CoVisitRule, folder: Path) -> TextPrior:
    """The neighbours by text of items; writes them into `folder` if the rule of co-visits has them."""
    neighbours = text_neighbours(rule, text_vectors)
    if rule.text_prior:
        text_prior.write(folder, item_ids, neighbours)
    return neighbours


def _number_items(inputs: PipelineInputs, item_ids: Sequence[str], folder: Path) -> dict[str, int]:
    """The numbers of the residuals of the log's items. Writes them into `folder`."""
    inherited = item_numbers(inputs.parent) if inputs.parent else {}
    numbers = _extend_numbers(inherited, [item_ids[item] for item in np.unique(inputs.log.with_items().item)])
    (folder / ITEMS).write_bytes(msgspec.json.encode(numbers))
    return numbers


def _number_domains(items: Sequence[Item], parent: Release | None, folder: Path) -> NDArray[np.int64] | None:
    """The items' domain numbers [C]; None if no item has a domain. Writes the numbers of all domains into `folder`."""
    inherited: dict[str, int] = {}
    if parent is not None and DOMAINS in parent.manifest.files:
        inherited = msgspec.json.decode(parent.read(DOMAINS), type=dict[str, int])
    numbers = _extend_numbers(inherited, [item.domain for item in items if item.domain is not None])
    if not numbers:
        return None
    (folder / DOMAINS).write_bytes(msgspec.json.encode(numbers))
    return np.array([0 if item.domain is None else numbers[item.domain] for item in items], np.int64)


def _extend_numbers(inherited: dict[str, int], names: Sequence[str]) -> dict[str, int]:
    """Numbers from 1 on: inherited ones stay, new names get the next ones."""
    numbers = dict(inherited)
    for name in names:
        numbers.setdefault(name, len(numbers) + 1)
    return numbers
