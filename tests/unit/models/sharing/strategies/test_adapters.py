from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anabranch.ranking.inference.onnx_model import OnnxModel
from anabranch.release import UnverifiedRelease
from models.networks.encoder import SharedEncoder
from models.networks.film import DomainFilm
from models.networks.onnx_export import export_encoder
from models.sharing.strategies.adapters import DomainAdapters
from models.sharing.strategies.text_geometry import TextGeometry
from models.sharing.strategy import CatalogueVectors, TrainingData
from models.sharing.training import train
from tests.support.training_data import ITEMS, TEXT_DIMS, TRAINING, encoder, training_data


def adapt(model: SharedEncoder, data: TrainingData) -> dict[str, float]:
    """Add adapters to the encoder; returns what was measured."""
    strategy = DomainAdapters()
    strategy.prepare(model, data, np.random.default_rng(0), lambda share: None)
    return strategy.measured()


def trained(data: TrainingData) -> SharedEncoder:
    model = encoder()
    train(model, data, [TextGeometry(), DomainAdapters()], TRAINING, random_seed=0)
    return model


@torch.no_grad()
def vectors(model: SharedEncoder, data: TrainingData) -> Tensor:
    return CatalogueVectors(model.eval(), data).at(np.arange(len(data.numbers)))


def test_one_domain_has_no_adapter() -> None:
    model = encoder()
    names = set(model.state_dict())
    assert adapt(model, training_data()) == {"adapted_domains": 0}
    assert model.item.film is None
    assert set(model.state_dict()) == names


def test_new_adapters_are_the_identity() -> None:
    model, data = encoder(), training_data(domains=2, text=True)
    before = vectors(model, data)
    assert adapt(model, data) == {"adapted_domains": 2}
    torch.testing.assert_close(vectors(model, data), before)


def test_every_domain_learns_its_own_adapter() -> None:
    film = trained(training_data(domains=2)).item.film
    assert film is not None
    assert film.scale.weight[1:].any(dim=1).all()
    assert film.shift.weight[1:].any(dim=1).all()
    assert not torch.equal(film.scale.weight[1], film.scale.weight[2])


def test_an_item_without_residual_is_unchanged() -> None:
    film = trained(training_data(domains=2, text=True)).item.film
    assert film is not None
    vector = torch.randn(3, 16)
    numbers = torch.tensor([0, 1, ITEMS // 2 + 1])
    modulated = film(vector, numbers)
    torch.testing.assert_close(modulated[0], vector[0])
    assert (modulated[1:] != vector[1:]).any(dim=1).all()


def test_residual_dropout_also_drops_the_adapter() -> None:
    item = trained(training_data(domains=2, text=True)).item.train()
    item.residual_dropout = 1.0
    text = torch.randn(3, TEXT_DIMS)
    with torch.no_grad():
        torch.testing.assert_close(item(text, torch.arange(1, 4)), item(text, torch.zeros(3, dtype=torch.int64)))


def test_the_exported_item_tower_finds_the_domain_by_the_item_number(tmp_path: Path) -> None:
    model = trained(training_data(domains=2, text=True))
    assert export_encoder(model, tmp_path)["item.onnx"] < 1e-5
    exported = OnnxModel(UnverifiedRelease(tmp_path), "item.onnx", ("text_vector", "item_number"), ("item_vector",))
    text, numbers = np.ones((3, TEXT_DIMS), np.float32), np.array([0, 1, ITEMS // 2 + 1])
    served = exported.run_rows(text_vector=text, item_number=numbers)[0]
    with torch.no_grad():
        np.testing.assert_allclose(served, model.item(torch.from_numpy(text), torch.from_numpy(numbers)), atol=1e-5)
        model.item.film = None
        plain = model.item(torch.from_numpy(text), torch.from_numpy(numbers)).numpy()
    np.testing.assert_allclose(served[0], plain[0], atol=1e-5)
    assert (np.abs(served[1:] - plain[1:]) > 1e-4).any(axis=1).all()


def test_a_child_keeps_its_parents_adapters_with_room_for_more_items_and_domains() -> None:
    data = training_data(domains=2)
    parent, child = trained(data), encoder(items=ITEMS + 10)
    child.inherit(parent.state_dict())
    torch.testing.assert_close(vectors(child, data), vectors(parent, data))
    assert data.domains is not None
    wider = training_data(domains=3, items=ITEMS + 10)
    assert adapt(child, wider) == {"adapted_domains": 3}
    film, before = child.item.film, parent.item.film
    assert film is not None
    assert before is not None
    assert torch.equal(film.scale.weight[1:3], before.scale.weight[1:3])
    assert not film.scale.weight[3].any()
    assert film.domain_of[ITEMS + 8] == 3


def test_a_child_of_a_parent_without_adapters_has_none() -> None:
    parent, child = encoder(), encoder(items=ITEMS + 10)
    child.inherit(parent.state_dict())
    assert child.item.film is None
    torch.testing.assert_close(vectors(child, training_data()), vectors(parent, training_data()))


def test_an_item_keeps_its_domain_if_the_data_no_longer_has_it() -> None:
    data = training_data(domains=2)
    model = trained(data)
    before = vectors(model, data)
    adapt(model, TrainingData(data.sequences, data.text_vectors, data.numbers))
    torch.testing.assert_close(vectors(model, data), before)


def test_a_film_layer_of_fewer_items_and_domains_is_inherited_row_by_row() -> None:
    old, new = DomainFilm(items=3, domains=1, dims=2), DomainFilm(items=5, domains=2, dims=2)
    torch.nn.init.ones_(old.scale.weight)
    old.domain_of[:] = torch.tensor([0, 1, 1])
    new.inherit(old.state_dict())
    assert new.domain_of.tolist() == [0, 1, 1, 0, 0]
    assert new.scale.weight.sum(dim=1).tolist() == [2, 2, 0]
