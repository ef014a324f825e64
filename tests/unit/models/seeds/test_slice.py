from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anabranch.messages import EVENT_TYPES
from models.data.event_log import EventColumns, EventLog
from models.data.sequences import Contexts, Sequences
from models.seeds.co_visit import CoVisitSeedModel
from models.seeds.slice import DomainSeedModel, TaskSeedModel
from models.seeds.text import TextSeedModel

VIEW, CART, PURCHASE = (EVENT_TYPES.index(name) for name in ("view", "cart", "purchase"))
ITEMS = 9
DOMAINS = np.array(["books", "music", "music"] * 3)
TEXTS = np.random.default_rng(0).normal(size=(ITEMS, 6)).astype(np.float32)


def log() -> EventLog:
    """Ten users each view 0, 1, buy 2, view 3, buy 4, view 5; nobody puts anything into a cart."""
    items, types = [0, 1, 2, 3, 4, 5], [VIEW, VIEW, PURCHASE, VIEW, PURCHASE, VIEW]
    user = np.repeat(np.arange(10), len(items))
    ids = tuple(map(str, range(10)))
    return EventLog.from_columns(
        EventColumns(user, np.tile(items, 10), np.tile(types, 10), np.arange(len(user)), user),
        user_ids=ids,
        item_ids=ids[:ITEMS],
    )


def contexts_of_first_user() -> Contexts:
    return Sequences.from_log(log()).contexts(np.arange(6), 8)


def task(name: str) -> TaskSeedModel:
    seed_model = TaskSeedModel(CoVisitSeedModel(), name)  # type: ignore[arg-type]
    seed_model.fit(log(), TEXTS, lambda share: None)
    return seed_model


def test_a_task_is_fitted_to_its_events_only() -> None:
    top_k = task("purchase").predict_top_k(contexts_of_first_user(), 3)
    assert top_k.items[2].tolist() == [4, -1, -1], "who bought 2 bought 4; what was viewed between does not count"
    assert set(top_k.items[5].tolist()) == {2, 4, -1}, "the newest event, a view, is not seen"


def test_before_its_first_event_a_task_has_an_empty_list_and_no_confidence() -> None:
    top_k = task("purchase").predict_top_k(contexts_of_first_user(), 3)
    assert top_k.confidence[:2].tolist() == [0, 0]
    assert (top_k.confidence[2:] > 0).all()
    assert (top_k.items[:2] == -1).all()


def test_a_task_without_events_predicts_nothing() -> None:
    progress: list[float] = []
    seed_model = TaskSeedModel(CoVisitSeedModel(), "cart")
    seed_model.fit(log(), TEXTS, progress.append)
    top_k = seed_model.predict_top_k(contexts_of_first_user(), 3)
    assert progress == [1.0]
    assert top_k.confidence.tolist() == [0] * 6
    assert (top_k.items == -1).all()


def test_contexts_without_event_types_are_an_error() -> None:
    with pytest.raises(ValueError, match="no `type`"):
        task("purchase").predict_top_k(replace(contexts_of_first_user(), type=None), 3)


@pytest.fixture
def music() -> DomainSeedModel:
    """A domain of a seed model that would otherwise list the whole catalogue."""
    seed_model = DomainSeedModel(TextSeedModel(dims=4), "music", DOMAINS)
    seed_model.fit(log(), TEXTS, lambda share: None)
    return seed_model


def test_a_domain_lists_its_own_items_only_and_all_of_them_for_a_large_k(music: DomainSeedModel) -> None:
    top_k = music.predict_top_k(contexts_of_first_user(), ITEMS)
    assert (np.sort(top_k.items[1:], axis=1) == np.flatnonzero(DOMAINS == "music")).all()


def test_before_its_first_item_a_domain_has_no_confidence(music: DomainSeedModel) -> None:
    top_k = music.predict_top_k(contexts_of_first_user(), 3)
    assert top_k.confidence[0] == 0
    assert (top_k.items[0] == -1).all()
    assert (top_k.confidence[1:] > 0).all()


def test_a_domain_does_not_see_items_of_others() -> None:
    """Item 3, a book, changes the list of the whole seed model, but not the music one's."""
    contexts = contexts_of_first_user()
    whole, music = TextSeedModel(dims=4), DomainSeedModel(TextSeedModel(dims=4), "music", DOMAINS)
    for seed_model in (whole, music):
        seed_model.fit(log(), TEXTS, lambda share: None)
    np.testing.assert_array_equal(music.predict_top_k(contexts, 6).items[2], music.predict_top_k(contexts, 6).items[3])
    assert whole.predict_top_k(contexts, 6).items[2].tolist() != whole.predict_top_k(contexts, 6).items[3].tolist()


def test_a_domain_is_fitted_to_its_own_events_only() -> None:
    seed_model = DomainSeedModel(CoVisitSeedModel(), "books", DOMAINS)
    seed_model.fit(log(), TEXTS, lambda share: None)
    assert seed_model.predict_top_k(contexts_of_first_user(), 3).items[0].tolist() == [3, -1, -1]


def test_a_domain_without_events_predicts_nothing() -> None:
    seed_model = DomainSeedModel(CoVisitSeedModel(), "films", DOMAINS)
    seed_model.fit(log(), TEXTS, lambda share: None)
    top_k = seed_model.predict_top_k(contexts_of_first_user(), 3)
    assert top_k.confidence.tolist() == [0] * 6
    assert (top_k.items == -1).all()


def test_domains_of_another_catalogue_are_an_error() -> None:
    with pytest.raises(ValueError, match="`domains` has 3 items, the catalogue 9"):
        DomainSeedModel(CoVisitSeedModel(), "books", DOMAINS[:3]).fit(log(), TEXTS, lambda share: None)


def test_a_slice_is_named_after_its_seed_model_and_its_task_or_domain(music: DomainSeedModel) -> None:
    assert task("purchase").name == "co_visit:purchase"
    assert music.name == "text:music"
