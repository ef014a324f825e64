"""What the list ranker and the purchase head are trained on: the user states and the catalogue of their time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anabranch.messages import Event, Item
from anabranch.ranking.policy import Policy
from anabranch.settings import Settings
from models.co_visit.model import CoVisitModel
from models.data.event_log import EventLog
from models.networks.encoder import EncoderConfig
from models.offline.catalogue_history import CatalogueHistory, ItemVersion
from models.offline.offline_ranker import OfflineRanker, rank_events
from models.pipeline.catalogue import Catalogue
from models.pipeline.config import PipelineInputs, ReleaseCandidateConfig
from models.pipeline.list_ranker_stage import provisional_ranker
from tests.support.releases import DIMS, TEXT_DIMS, write_release

ITEMS = [Item(item_id=f"item {number}", title=f"item {number}", available=number != 5) for number in range(20)]
IDS = tuple(item.item_id for item in ITEMS)
SETTINGS = Settings(slate_size=20, history_length=3, own_items=2)


@pytest.fixture
def inputs() -> PipelineInputs:
    """Item 3 was unavailable in the first half of the log; item 5 is now."""
    events = [
        Event(event_id=str(n), user_id=f"user {n % 4}", type="view", ts=100 + n, item_id=IDS[n * 7 % len(IDS)])
        for n in range(80)
    ]
    unavailable = ItemVersion(90, "item 3", replace_available(ITEMS[3]))
    history = CatalogueHistory.from_versions([unavailable, ItemVersion(140, "item 3", ITEMS[3])])
    return PipelineInputs(EventLog.from_events(events, IDS), ITEMS, 150, catalogue=history)


def replace_available(item: Item) -> Item:
    return Item(item_id=item.item_id, title=item.title, available=False)


def ranker(folder: Path, inputs: PipelineInputs) -> OfflineRanker:
    write_release(folder, item_ids=IDS)
    policy = Policy(retrieval_k=len(ITEMS), allow_session_repeats=True)
    config = ReleaseCandidateConfig(threads=1, policy=policy).for_rankers(SETTINGS)
    config = replace(config, policy=policy)
    texts = np.random.default_rng(0).normal(size=(len(ITEMS), TEXT_DIMS)).astype(np.float32)
    encoder = EncoderConfig(len(ITEMS) + 1, TEXT_DIMS, DIMS, DIMS, DIMS)
    changed = texts[[IDS.index(version.item_id) for version in inputs.catalogue.versions]]
    catalogue = Catalogue(IDS, texts, changed, None, {}, child=False)
    return provisional_ranker(inputs, catalogue, CoVisitModel().fit(inputs.log).table(), folder, encoder, config)


def test_lists_are_made_with_the_catalogue_of_their_time(tmp_path: Path, inputs: PipelineInputs) -> None:
    made = ranker(tmp_path / "r1", inputs)
    slates = rank_events(made, inputs.log, 0).slate
    shown = {
        name: np.flatnonzero((slates == made.item_ids.row(name)).any(axis=1)).tolist() for name in ("item 3", "item 5")
    }
    assert shown == {"item 3": list(range(40, 80)), "item 5": []}


def test_lists_read_user_states_of_the_rankers_layout(tmp_path: Path, inputs: PipelineInputs) -> None:
    layout = ranker(tmp_path / "r1", inputs).layout
    assert (layout.history, layout.long_term_items, layout.slate) == (3, 2, 20)
