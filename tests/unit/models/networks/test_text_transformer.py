from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anabranch.errors import UsageError
from anabranch.ranking.inference.item_encoder import TextEncoder
from anabranch.release import UnverifiedRelease
from models.data.event_log import EventColumns, EventLog
from models.data.sequences import Sequences
from models.networks.text_adapter import PairLoss, adapt, item_pairs
from models.networks.text_transformer import TextConfig, export_text, load_transformer
from models.seeds.seed_model import Vectors
from models.seeds.text import OwnTransformer, TextSeedModel
from tests.support.text_models import write_text_model

WORDS = ["red", "green", "blue", "shirt", "shoe", "hat", "bread", "milk", "tea", "cup", "bowl", "pan"]
TEXTS = [f"{WORDS[index % 12]} {WORDS[(5 * index + 1) % 12]}" for index in range(12)]
LORA = TextConfig(adapter="lora", rank=4, steps=60, pairs_per_step=6, learning_rate=1e-2)
ADAPTED = [LORA, replace(LORA, adapter="adalora", learning_rate=2e-2, steps=80)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("bert"), WORDS)


def log() -> EventLog:
    """Twenty users, each with one of the pairs (0, 1), (2, 3) … over and over."""
    user = np.repeat(np.arange(20), 4)
    item = 2 * (user % 6) + np.tile([0, 1], 40)
    ids = tuple(map(str, range(20)))
    return EventLog.from_columns(
        EventColumns(user, item, np.zeros(80, np.int64), np.arange(80), user), user_ids=ids, item_ids=ids[:12]
    )


def cosines(vectors: Vectors) -> Vectors:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def margin(vectors: Vectors) -> float:
    """How much closer the texts of a pair are to each other than to all others, as cosines."""
    alike = cosines(vectors)
    return float(alike[np.arange(0, 12, 2), np.arange(1, 12, 2)].mean() - alike.mean())


def test_a_transformer_is_read_from_a_folder(folder: Path) -> None:
    vectors = load_transformer(str(folder)).encode(TEXTS)
    assert vectors.shape == (12, 16)
    assert np.isfinite(vectors).all()


def test_the_vector_of_a_text_does_not_depend_on_its_batch(folder: Path) -> None:
    transformer = load_transformer(str(folder))
    np.testing.assert_allclose(transformer.encode(["tea", *TEXTS])[0], transformer.encode(["tea"])[0], atol=1e-5)


def test_the_exported_file_computes_the_transformers_vectors(folder: Path, tmp_path: Path) -> None:
    transformer = load_transformer(str(folder))
    export_text(tmp_path, quantised=False, transformer=transformer)
    np.testing.assert_allclose(
        TextEncoder(UnverifiedRelease(tmp_path)).encode(TEXTS), transformer.encode(TEXTS), atol=1e-5
    )


def test_a_model_that_is_not_on_this_machine_is_an_error_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"'nobody/nothing' is neither .* run `hf download nobody/nothing`"):
        load_transformer("nobody/nothing")
    with pytest.raises(UsageError, match="neither a folder nor in the local cache"):
        load_transformer(str(tmp_path / "missing"))


def test_an_error_names_the_folder_without_a_transformer(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"^cannot load a transformer from {tmp_path}"):
        load_transformer(str(tmp_path))


def test_pairs_are_consecutive_items_of_one_user() -> None:
    pairs = item_pairs(log(), np.arange(12))
    assert {tuple(pair) for pair in pairs.tolist()} == {(2 * n + a, 2 * n + 1 - a) for n in range(6) for a in (0, 1)}
    assert len(pairs) == 60


def test_a_pair_with_an_item_that_has_no_text_is_left_out() -> None:
    assert 0 not in item_pairs(log(), np.where(np.arange(12) == 1, -1, np.arange(12)))
    assert len(item_pairs(log(), np.full(12, -1))) == 0


def test_a_pair_of_items_with_one_text_is_left_out() -> None:
    assert 0 not in item_pairs(log(), np.maximum(np.arange(12), 1))


def test_texts_are_equal_if_the_transformer_reads_the_same_tokens(folder: Path) -> None:
    numbers = load_transformer(str(folder)).numbers(["red hat", "tea", "", "red   hat", "tea cup", "tea"])
    assert numbers.tolist() == [0, 1, -1, 0, 2, 1]


def pair_loss(folder: Path, *pairs: tuple[str, str]) -> float:
    transformer = load_transformer(str(folder))
    left, right = ([pair[side] for pair in pairs] for side in (0, 1))
    numbers = transformer.numbers([*left, *right]).reshape(2, -1).T
    loss = PairLoss(transformer.module, 0.05)(
        transformer.tokens(left), transformer.tokens(right), torch.from_numpy(numbers)
    )
    return float(loss.loss.detach())


def test_pairs_of_equal_texts_are_no_negatives_of_each_other(folder: Path) -> None:
    """As where a shop lists one product twice. Nothing is left to tell the right text from."""
    assert pair_loss(folder, ("red hat", "tea"), ("red hat", "tea")) == pytest.approx(0, abs=1e-6)
    assert pair_loss(folder, ("red hat", "tea"), ("red hat", "cup")) == pytest.approx(0, abs=1e-6)
    assert pair_loss(folder, ("red hat", "tea"), ("cup", "tea")) == pytest.approx(0, abs=1e-6)
    assert pair_loss(folder, ("red hat", "tea"), ("cup", "pan")) > 0.01


def test_a_text_is_not_its_own_negative_on_the_other_side_of_another_pair(folder: Path) -> None:
    assert pair_loss(folder, ("red hat", "tea"), ("tea", "red hat")) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("config", ADAPTED, ids=lambda config: config.adapter)
def test_an_adapter_moves_texts_of_a_pair_together(config: TextConfig, folder: Path) -> None:
    before = load_transformer(str(folder)).encode(TEXTS)
    adapted = adapt(load_transformer(str(folder)), TEXTS, log(), config, random_seed=0)
    assert margin(adapted.encode(TEXTS)) > margin(before) + 0.1


@pytest.mark.parametrize("config", ADAPTED, ids=lambda config: config.adapter)
def test_the_adapter_is_merged_into_the_exported_weights(config: TextConfig, folder: Path, tmp_path: Path) -> None:
    adapted = adapt(load_transformer(str(folder)), TEXTS, log(), replace(config, steps=10), random_seed=0)
    assert not [name for name, _ in adapted.module.named_parameters() if "lora" in name]
    export_text(tmp_path, quantised=False, transformer=adapted)
    np.testing.assert_allclose(TextEncoder(UnverifiedRelease(tmp_path)).encode(TEXTS), adapted.encode(TEXTS), atol=1e-5)


def test_equal_random_seeds_adapt_equally(folder: Path) -> None:
    few = replace(LORA, steps=5)
    first, other = (
        adapt(load_transformer(str(folder)), TEXTS, log(), few, random_seed=3).encode(TEXTS) for _ in range(2)
    )
    np.testing.assert_array_equal(first, other)


def test_without_an_adapter_the_transformer_does_not_change(folder: Path) -> None:
    transformer = load_transformer(str(folder))
    before = transformer.encode(TEXTS)
    progress: list[float] = []
    after = adapt(transformer, TEXTS, log(), TextConfig(), random_seed=0, done=progress.append).encode(TEXTS)
    np.testing.assert_array_equal(before, after)
    assert progress == [1.0]


def test_a_text_seed_model_with_an_adapted_transformer_lists_the_other_item_of_a_pair(folder: Path) -> None:
    def hits(config: TextConfig) -> float:
        seed = TextSeedModel(dims=8, recent=1, own=OwnTransformer(TEXTS, replace(config, model=str(folder))))
        seed.fit(log(), np.zeros((12, 4), np.float32), lambda share: None)
        contexts = Sequences.from_log(log()).contexts(np.arange(0, 80, 4), 4)
        return float((seed.predict_top_k(contexts, 3).items == contexts.recent[:, :1] + 1).any(axis=1).mean())

    adapted = hits(LORA)
    assert adapted > 0.6, "the list is the item itself and two of eleven others: by chance one hit in five"
    assert adapted > hits(TextConfig()) + 0.2


def test_a_seed_model_with_its_own_transformer_reports_its_progress(folder: Path) -> None:
    progress: list[float] = []
    own = OwnTransformer(TEXTS, replace(LORA, model=str(folder), steps=4))
    TextSeedModel(dims=4, own=own).fit(log(), np.zeros((12, 4), np.float32), progress.append)
    assert sum(progress) == pytest.approx(1.0)


def test_texts_of_another_catalogue_are_an_error() -> None:
    with pytest.raises(ValueError, match="`texts` has 2 items, the catalogue 12"):
        TextSeedModel(own=OwnTransformer(TEXTS[:2])).fit(log(), np.zeros((12, 4), np.float32), lambda share: None)
