"""Text vectors of what the pipeline trains on: items, their earlier versions, and searches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anabranch.messages import Event, Item
from anabranch.ranking.inference.item_encoder import TextEncoder
from anabranch.ranking.types import Vectors
from anabranch.release import UnverifiedRelease
from anabranch.text_embedding_cache import FOLDER
from models.data.event_log import EventLog
from models.offline.catalogue_history import CatalogueHistory, ItemVersion
from models.pipeline.catalogue import QUERY_CACHE, Catalogue
from models.pipeline.config import PipelineInputs, ReleaseCandidateConfig
from tests.support.releases import write_release

ITEMS = [Item(item_id="lamp", title="a lamp"), Item(item_id="desk", title="a desk")]


@pytest.fixture
def inputs() -> PipelineInputs:
    """The lamp had another title, was removed and came back; a user searches for a chair."""
    events = [
        Event(event_id="0", user_id="user", type="search", query="a chair", ts=1),
        Event(event_id="1", user_id="user", type="view", item_id="lamp", ts=2),
    ]
    versions = [ItemVersion(1, "lamp", Item(item_id="lamp", title="an old lamp")), ItemVersion(2, "lamp", None)]
    history = CatalogueHistory.from_versions([*versions, ItemVersion(3, "lamp", ITEMS[0])])
    return PipelineInputs(EventLog.from_events(events, ["lamp", "desk"]), ITEMS, 2, catalogue=history)


def read(inputs: PipelineInputs, folder: Path) -> Catalogue:
    return Catalogue.read(inputs, folder, folder.parent, ReleaseCandidateConfig(threads=1), lambda share: None)


def test_each_text_has_the_vector_of_the_folders_transformer(tmp_path: Path, inputs: PipelineInputs) -> None:
    write_release(tmp_path / "r1", item_ids=["lamp", "desk"])
    catalogue, text = read(inputs, tmp_path / "r1"), TextEncoder(UnverifiedRelease(tmp_path / "r1"))
    assert np.array_equal(catalogue.text_vectors, text.encode(["a lamp", "a desk"]))
    assert np.array_equal(catalogue.version_text_vectors, text.encode(["an old lamp", "", "a lamp"]))
    assert catalogue.query_vectors is not None
    assert np.array_equal(catalogue.query_vectors, text.encode(["a chair"]))


def test_a_second_reading_embeds_no_text(
    tmp_path: Path, inputs: PipelineInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_release(tmp_path / "r1", item_ids=["lamp", "desk"])
    first = read(inputs, tmp_path / "r1")

    def fail(self: TextEncoder, texts: Sequence[str], *done: Any) -> Vectors:
        raise AssertionError(f"embeds {texts}")

    monkeypatch.setattr(TextEncoder, "encode", fail)
    again = read(inputs, tmp_path / "r1")
    assert np.array_equal(again.version_text_vectors, first.version_text_vectors)


def test_texts_of_searches_are_kept_apart_from_those_that_rankers_load(tmp_path: Path, inputs: PipelineInputs) -> None:
    write_release(tmp_path / "r1", item_ids=["lamp", "desk"])
    read(inputs, tmp_path / "r1")
    (of_items,), (of_queries,) = (
        list(folder.glob("*")) for folder in (tmp_path / FOLDER, tmp_path / QUERY_CACHE / FOLDER)
    )
    assert of_items.stat().st_size == 4 * of_queries.stat().st_size, "four texts of items, one of a search"
