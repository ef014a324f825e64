"""The catalogue as a candidate learns it: every item's text, domain and number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from anabranch.messages import Item
from anabranch.ranking.inference.item_encoder import item_numbers, item_text
from anabranch.release import Release
from models.data.event_log import EventLog
from models.data.sequences import Sequences
from models.networks.text_transformer import text_vectors
from models.seeds.seed_model import SeedModel
from models.sharing.strategy import TrainingData
from models.stages import Done

ITEMS = "items.json"
"""The number of every item that has a learned residual, from 1 on."""
DOMAINS = "domains.json"
"""The number of every domain, from 1 on, for the child: its items' adapters go by it. Only where items have domains."""


@dataclass(frozen=True)
class Catalogue:
    """C items. The log's item numbers are rows of it."""

    item_ids: tuple[str, ...]
    text_vectors: NDArray[np.float32]  # [C, T]
    domains: NDArray[np.int64] | None  # [C], from 1 on, 0: none; None: no item has one
    learned: dict[str, int]
    """Item id → number of its residual. A child's items keep their parent's numbers; new ones follow."""
    child: bool

    @classmethod
    def read(
        cls,
        items: Sequence[Item],
        log: EventLog,
        parent: Release | None,
        folder: Path,
        cache: Path,
        threads: int,
        done: Done,
    ) -> Self:
        """Read the texts by the folder's transformer, and number what occurs in the log; numbers into the folder.

        Text vectors are kept in `cache`.
        """
        texts = [item_text(item) for item in items]
        unique = max(len(set(texts)), 1)
        vectors = text_vectors(texts, folder, cache, threads, lambda n: done(n / unique))
        item_ids = tuple(item.item_id for item in items)
        inherited = item_numbers(parent) if parent else {}
        learned = _numbered(inherited, [item_ids[item] for item in np.unique(log.item)])
        (folder / ITEMS).write_bytes(msgspec.json.encode(learned))
        return cls(item_ids, vectors, _domains(items, parent, folder), learned, parent is not None)

    def training_data(self, log: EventLog, seeds: Sequence[SeedModel], new_since_ms: int) -> TrainingData:
        """What an encoder is taught of a log. `new_since_ms`: see `TrainingData`."""
        return TrainingData(
            sequences=Sequences.from_log(log),
            text_vectors=torch.from_numpy(self.text_vectors),
            numbers=np.array([self.learned.get(item_id, 0) for item_id in self.item_ids], np.int64),
            seeds=seeds,
            new_since_ms=new_since_ms,
            child=self.child,
            domains=self.domains,
        )


def _domains(items: Sequence[Item], parent: Release | None, folder: Path) -> NDArray[np.int64] | None:
    """The numbers of the items' domains; names and numbers of all domains so far into the folder."""
    inherited: dict[str, int] = {}
    if parent is not None and DOMAINS in parent.manifest.files:
        inherited = msgspec.json.decode(parent.read(DOMAINS), type=dict[str, int])
    numbers = _numbered(inherited, [item.domain for item in items if item.domain is not None])
    if not numbers:
        return None
    (folder / DOMAINS).write_bytes(msgspec.json.encode(numbers))
    return np.array([0 if item.domain is None else numbers[item.domain] for item in items], np.int64)


def _numbered(inherited: dict[str, int], names: Sequence[str]) -> dict[str, int]:
    """Numbers of items or domains from 1 on: the inherited ones stay, new ones follow."""
    numbers = dict(inherited)
    for name in names:
        numbers.setdefault(name, len(numbers) + 1)
    return numbers
