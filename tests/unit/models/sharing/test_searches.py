"""Searches in training: the encoder reads them, as in serving, and nothing predicts them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from anabranch.event_types import EVENT_TYPES, EventType
from anabranch.ranking.inference.item_encoder import OnnxItemEncoder
from anabranch.release import UnverifiedRelease
from models.data.event_log import EventColumns, EventLog
from models.data.sequences import Sequences
from models.networks.encoder import SharedEncoder
from models.networks.onnx_export import export_encoder
from models.pipeline.catalogue import ITEMS as ITEM_NUMBERS
from models.sharing.held_out import held_out_rows
from models.sharing.strategies.merging import Merging
from models.sharing.strategies.multi_task import MultiTask
from models.sharing.strategies.rank_distillation import ListDistillationLoss, RankDistillation, TeacherLists
from models.sharing.strategies.replay import Replay
from models.sharing.strategies.text_geometry import TextGeometry
from models.sharing.strategy import CatalogueVectors, TrainingData, encoder_inputs
from models.sharing.training import train
from tests.support.training_data import (
    EVENTS,
    ITEMS,
    PURCHASE,
    SEARCH,
    TRAINING,
    USERS,
    VIEW,
    encoder,
    training_data,
    with_searches,
)

HALF = 11_000
"""ms: each user's first ten events are before it, and their searches."""
ITEM_AFTER = 7
"""A search for the text of an item is followed by the item with the number that is so much higher: nothing but training
tells the encoder that."""
LONG = replace(TRAINING, epochs=20, learning_rate=1e-2)


def visits_of_chance() -> EventLog:
    """Visits that do not depend on those before."""
    user, event = np.divmod(np.arange(USERS * EVENTS), EVENTS)
    item = np.random.default_rng(0).integers(ITEMS, size=len(user))
    columns = EventColumns(user, item, np.full(len(user), VIEW), 1000 * (1 + event), np.zeros(len(user)))
    names = tuple(map(str, range(max(USERS, ITEMS))))
    return EventLog.from_columns(columns, user_ids=names[:USERS], item_ids=names[:ITEMS])


@pytest.fixture(scope="module")
def telling() -> TrainingData:
    """Each search tells the next visit, which nothing else does."""
    visits = visits_of_chance()
    texts = torch.from_numpy(np.random.default_rng(1).normal(size=(ITEMS, 12)).astype(np.float32))
    log = with_searches(visits, (visits.item - ITEM_AFTER) % ITEMS)
    return TrainingData(Sequences.with_searches(log), texts, np.arange(1, ITEMS + 1), query_vectors=texts)


def trained(data: TrainingData) -> SharedEncoder:
    model = encoder(items=ITEMS)
    train(model, data, [TextGeometry()], LONG, random_seed=0)
    return model


@torch.no_grad()
def hit_rate(model: SharedEncoder, data: TrainingData) -> float:
    """How often the item that follows a search has the highest score right after it."""
    items = CatalogueVectors(model, data)
    rows = np.arange(len(data.sequences)).reshape(USERS, -1)
    scores = model.step(*items.inputs(data.sequences, rows)) @ items.at(np.arange(ITEMS)).T
    search = rows[data.sequences.type[rows] == SEARCH]
    best = scores.argmax(dim=-1).numpy().ravel()
    return float((best[search] == data.sequences.item[search + 1]).mean())


@torch.no_grad()
def type_moved(model: SharedEncoder) -> float:
    """By how much training changed the type vector of searches."""
    change = model.step.type_vector.weight[SEARCH] - encoder(items=ITEMS).step.type_vector.weight[SEARCH]
    return float(change.norm())


def test_the_encoder_learns_what_searches_tell_and_their_type(telling: TrainingData) -> None:
    without = replace(telling, sequences=telling.sequences.only(telling.sequences.has_item))
    reads, does_not = trained(telling), trained(without)
    assert hit_rate(reads, telling) > 0.8
    assert hit_rate(does_not, telling) < 0.2
    assert type_moved(reads) > 0.3
    assert type_moved(does_not) < 0.01, "weight decay only"


def test_a_child_learns_what_searches_tell(telling: TrainingData) -> None:
    parent = trained(replace(telling, sequences=telling.sequences.only(telling.sequences.has_item)))
    before = hit_rate(parent, telling)
    data = replace(telling, new_since_ms=HALF, child=True)
    train(parent, data, [Replay()], replace(LONG, catching_up_epochs=20, child_rate=1e-2), random_seed=0)
    assert hit_rate(parent, telling) > max(0.6, 2 * before)


def test_training_reads_a_search_as_serving_does(telling: TrainingData, tmp_path: Path) -> None:
    model = encoder(items=ITEMS)
    TextGeometry().prepare(model, telling, np.random.default_rng(0), lambda share: None)
    export_encoder(model.eval(), tmp_path)
    (tmp_path / ITEM_NUMBERS).write_bytes(msgspec.json.encode({}))
    assert telling.query_vectors is not None
    served = OnnxItemEncoder(UnverifiedRelease(tmp_path)).encode_text(telling.query_vectors.numpy())
    with torch.no_grad():
        read = CatalogueVectors(model, telling).inputs(telling.sequences, np.arange(8))[0].numpy()
    query = telling.sequences.query[:8:2]
    np.testing.assert_allclose(read[::2], served[query], atol=1e-5)


def test_a_log_without_searches_trains_as_it_did() -> None:
    log = visits_of_chance()
    plain, read = Sequences.from_log(log), Sequences.with_searches(log)
    assert all(np.array_equal(getattr(plain, name), getattr(read, name)) for name in vars(plain))


def test_searches_are_neither_tasks_nor_specialists_nor_held_out() -> None:
    data = training_data(domains=2, types=(VIEW, PURCHASE), searches=True)
    multi_task = MultiTask(min_events=20)
    multi_task.prepare(encoder(), data, np.random.default_rng(0), lambda share: None)
    assert multi_task.measured() == {"multi_task_view": 0.5, "multi_task_purchase": 0.5}
    held_out = held_out_rows(data.sequences, 1.0, 1000)
    assert len(held_out) == USERS
    assert data.sequences.has_item[held_out].all()
    slices = Merging(min_events=20).slices(data, held_out)
    assert set(slices) == {"domain_1", "domain_2", "view", "purchase"}
    assert (slices["view"].sequences.type == SEARCH).any(), "specialists of a type read searches"
    assert slices["domain_1"].sequences.has_item.all()


def test_users_who_only_search_have_nothing_held_out() -> None:
    sequences = training_data(searches=True).sequences
    first_two = sequences.only((sequences.user > 1) | ~sequences.has_item)
    assert sorted(first_two.user[held_out_rows(first_two, 1.0, 1000)]) == list(range(2, USERS))


def test_lists_of_seed_models_are_taught_after_visits_as_without_searches() -> None:
    with_them, without = (lists(training_data(seed_models=True, searches=searches)) for searches in (True, False))
    visits = training_data(searches=True).sequences.visit_row
    assert np.array_equal(with_them.index[visits], without.index)
    assert (with_them.index >= 0).sum() == (without.index >= 0).sum() > 0
    assert np.array_equal(with_them.items, without.items)


def lists(data: TrainingData) -> TeacherLists:
    loss = RankDistillation().prepare(encoder(), data, np.random.default_rng(0), lambda share: None)
    assert isinstance(loss, ListDistillationLoss)
    return loss.lists


@pytest.mark.parametrize("type", ["click", "like", "rating"])
def test_types_that_encoders_have_no_vector_for_are_trained_on_as_views(type: EventType) -> None:
    log = visits_of_chance()
    others = replace(log, type=np.full_like(log.type, EVENT_TYPES.index(type)))
    rows = np.arange(9)[None]
    inputs = [
        encoder_inputs(Sequences.from_log(part), rows, ITEMS, lambda item: torch.zeros(*item.shape, 4))
        for part in (log, others)
    ]
    for of_views, of_others in zip(*inputs, strict=True):
        assert torch.equal(of_views, of_others)
