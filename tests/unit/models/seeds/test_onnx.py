from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from anabranch.release import ReleaseError
from models.data.event_log import EventColumns, EventLog
from models.data.sequences import Contexts, Sequences
from models.networks.encoder import EncoderConfig, SharedEncoder
from models.networks.onnx_export import export_encoder
from models.seeds.onnx import OnnxSeedModel
from tests.support.releases import DIMS, TEXT_DIMS, write_release

ITEMS = 9
CONFIG = EncoderConfig(items=5, text_dims=6, white_dims=4, dims=8, state_dims=12)
TEXTS = np.random.default_rng(0).normal(size=(ITEMS, 6)).astype(np.float32)


def log() -> EventLog:
    """Three users, of 3, 4 and 1 events, of every type."""
    user = np.array([0, 0, 0, 1, 1, 1, 1, 2])
    item = np.array([3, 1, 8, 2, 2, 5, 0, 7])
    ts = np.array([0, 5_000, 9_000, 20_000, 30_000, 31_000, 90_000, 95_000])
    types = np.array([0, 2, 1, 0, 3, 2, 1, 0])
    return EventLog.from_columns(
        EventColumns(user, item, types, ts, user), user_ids=("a", "b", "c"), item_ids=tuple(map(str, range(ITEMS)))
    )


@pytest.fixture
def encoder() -> SharedEncoder:
    torch.manual_seed(0)
    encoder = SharedEncoder(CONFIG).eval()
    encoder.item.whitening.copy_(torch.eye(6)[:, :4])
    torch.nn.init.normal_(encoder.item.residual.weight)
    return encoder


@pytest.fixture
def folder(encoder: SharedEncoder, tmp_path: Path) -> Path:
    """The encoder as files; items 0 to 3 have residuals."""
    export_encoder(encoder, tmp_path)
    (tmp_path / "items.json").write_text('{"0": 1, "1": 2, "2": 3, "3": 4}')
    return tmp_path


def fitted(seed_model: OnnxSeedModel, text_vectors: np.ndarray = TEXTS) -> OnnxSeedModel:
    seed_model.fit(log(), text_vectors, lambda share: None)
    return seed_model


def last_contexts() -> Contexts:
    sequences = Sequences.from_log(log())
    return sequences.contexts(sequences.start[1:] - 1, 6)


@torch.no_grad()
def test_its_list_equals_that_of_stepping_the_encoder(encoder: SharedEncoder, folder: Path) -> None:
    sequences = Sequences.from_log(log())
    numbers = torch.tensor([1, 2, 3, 4, 0, 0, 0, 0, 0])
    vectors = encoder.item(torch.from_numpy(TEXTS), numbers)
    scores = []
    for start, end in zip(sequences.start[:-1], sequences.start[1:], strict=True):
        state = torch.zeros(1, CONFIG.state_dims)
        for row in range(start, end):
            state, user = encoder.step.step(
                state,
                vectors[sequences.item[row]][None],
                torch.tensor([int(sequences.type[row])]),
                torch.tensor([float(sequences.seconds_since[row])]),
            )
        scores.append((user @ vectors.T)[0])
    expected = torch.stack(scores)
    top_k = fitted(OnnxSeedModel(folder)).predict_top_k(last_contexts(), 4)
    np.testing.assert_array_equal(top_k.items, expected.topk(4).indices)
    np.testing.assert_allclose(top_k.confidence, expected.softmax(-1).topk(4).values.sum(-1), rtol=1e-4)


def test_any_release_folder_will_do(tmp_path: Path) -> None:
    write_release(tmp_path / "r1", item_ids=["0", "1"])
    top_k = fitted(OnnxSeedModel(tmp_path / "r1"), np.eye(ITEMS, TEXT_DIMS, dtype=np.float32)).predict_top_k(
        last_contexts(), 3
    )
    assert top_k.items.shape == (3, 3)
    assert (top_k.confidence > 0).all()


def test_it_uses_its_own_text_vectors_if_given(tmp_path: Path) -> None:
    write_release(tmp_path / "r1")
    own = np.eye(ITEMS, TEXT_DIMS, dtype=np.float32)
    seed_model = fitted(OnnxSeedModel(tmp_path / "r1", text_vectors=own))
    assert seed_model.user_vectors(last_contexts()).shape == (3, DIMS)


def test_without_events_the_confidence_is_0(folder: Path) -> None:
    nothing = last_contexts().only(np.zeros((3, 6), np.bool_))
    assert fitted(OnnxSeedModel(folder)).predict_top_k(nothing, 3).confidence.tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ["step.onnx", "item.onnx", "items.json"])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(ReleaseError, match=name):
        fitted(OnnxSeedModel(folder))


def test_a_missing_input_is_named(folder: Path) -> None:
    (folder / "step.onnx").write_bytes((folder / "item.onnx").read_bytes())
    with pytest.raises(ReleaseError, match=r"step\.onnx has no inputs state, input_vector"):
        fitted(OnnxSeedModel(folder))


def test_text_vectors_of_another_size_are_an_error_with_the_remedy(folder: Path) -> None:
    with pytest.raises(
        ReleaseError, match=r"item\.onnx does not accept text vectors of 3 dimensions: pass `text_vectors`"
    ):
        fitted(OnnxSeedModel(folder), TEXTS[:, :3])


def test_text_vectors_of_another_catalogue_are_an_error(folder: Path) -> None:
    with pytest.raises(ValueError, match="`text_vectors` has 5 items, the catalogue 9"):
        fitted(OnnxSeedModel(folder, text_vectors=TEXTS[:5]))
