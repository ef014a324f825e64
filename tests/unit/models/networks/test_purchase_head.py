from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anabranch.ranking.inference.purchase_head import OnnxPurchaseHead as OnnxPurchaseHead
from anabranch.release import PURCHASE_HEAD, UnverifiedRelease
from models.data.purchase_examples import NoPurchaseHead, PurchaseExamples
from models.metrics.calibration import PurchaseMetrics
from models.networks.onnx_export import export_purchase_head
from models.networks.purchase_head import (
    PurchaseClassifier,
    PurchaseConfig,
    calibrate,
    fit_purchase_head,
    probabilities,
)

CONFIG = PurchaseConfig(rows_per_step=256, epochs=12)
POINTS, CANDIDATES = 1000, 10


def rule(features: np.ndarray, shift: float = 0.0) -> np.ndarray:
    """Purchase probability: high for a high second feature, low if the third is above 0; 10 % on average."""
    return 1 / (1 + np.exp(-shift - np.where(features[:, 2] > 0, -6, 3 * features[:, 1] - 2)))


def examples(random_seed: int = 0, points: int = POINTS, shift: float = 0.0) -> PurchaseExamples:
    """Purchases drawn by the rule."""
    random = np.random.default_rng(random_seed)
    features = random.normal(size=(points * CANDIDATES, 4)) * [100, 1, 1, 0.01] + [5000, 0, 0, 0]
    bought = random.random(len(features)) < rule(features, shift)
    return PurchaseExamples(
        features.astype(np.float32), bought, np.repeat(np.arange(points), CANDIDATES), np.ones(len(features), np.bool_)
    )


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """With several threads, such small steps mostly wait for the other threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def learned() -> tuple[PurchaseClassifier, PurchaseMetrics]:
    return fit_purchase_head(examples(), CONFIG, random_seed=0)


def figures(head: PurchaseClassifier, data: PurchaseExamples) -> PurchaseMetrics:
    return PurchaseMetrics.from_probabilities(probabilities(head, data), data.bought, 0.5)


def test_a_head_learns_the_rule_by_which_users_buy(learned: tuple[PurchaseClassifier, PurchaseMetrics]) -> None:
    head, measured = learned
    unseen = examples(random_seed=1)
    best_possible = PurchaseMetrics.from_probabilities(rule(unseen.features), unseen.bought, 0.5)
    assert figures(head, unseen).roc_auc > best_possible.roc_auc - 0.01 > 0.9
    assert measured.roc_auc > best_possible.roc_auc - 0.02
    assert measured.pr_auc > 3 * measured.purchases / measured.examples
    assert measured.calibration_error < 0.03


def test_the_best_f1_threshold_beats_one_half_if_purchases_are_rare(
    learned: tuple[PurchaseClassifier, PurchaseMetrics],
) -> None:
    measured = learned[1]
    assert measured.at_best_f1.threshold < 0.5
    assert measured.at_best_f1.f1 > measured.at_half.f1


def test_probabilities_are_between_0_and_1_for_any_features(
    learned: tuple[PurchaseClassifier, PurchaseMetrics],
) -> None:
    extreme = torch.tensor([[[3e38, -3e38, 3e38, -3e38], [0, 0, 0, 0], [1e6, -1e6, 1e-6, 3]]])
    with torch.no_grad():
        probability = learned[0](extreme).numpy()
    assert ((probability >= 0) & (probability <= 1)).all()


def test_calibration_follows_a_purchase_rate_that_changed_after_training(
    learned: tuple[PurchaseClassifier, PurchaseMetrics],
) -> None:
    """Users buy far less than in training, and the head is overconfident."""
    head = deepcopy(learned[0])
    head.scale.fill_(2.0)
    head.shift.fill_(0.0)
    later, unseen = examples(1, shift=-1.5), examples(2, shift=-1.5)
    before = figures(head, unseen)
    calibrate(head, later)
    after = figures(head, unseen)
    assert after.calibration_error < 0.5 * before.calibration_error
    assert after.adaptive_calibration_error < 0.5 * before.adaptive_calibration_error
    assert after.log_loss < before.log_loss
    assert after.roc_auc == pytest.approx(before.roc_auc), "a straight line leaves the order as it was"


def test_the_measured_part_is_used_neither_in_training_nor_in_calibration() -> None:
    data = examples(points=500)
    others = examples(random_seed=5, points=500)
    newest = data.prediction_point >= 400
    changed = PurchaseExamples(
        np.where(newest[:, None], others.features, data.features),
        np.where(newest, others.bought, data.bought),
        data.prediction_point,
        data.on_slate,
    )
    first, second = (fit_purchase_head(which, CONFIG, random_seed=0) for which in (data, changed))
    for name, values in first[0].state_dict().items():
        assert torch.equal(values, second[0].state_dict()[name])
    assert first[1] != second[1]


def test_too_few_purchases_make_no_head() -> None:
    data = examples()
    rare = replace(data, bought=data.bought & (data.prediction_point < 800))
    with pytest.raises(NoPurchaseHead, match=r"^0 of .* items on slates to measure on were bought: at least 20"):
        fit_purchase_head(rare, CONFIG, random_seed=0)
    with pytest.raises(NoPurchaseHead, match=r"^0 of .* items on slates to measure on were bought: at least 20"):
        fit_purchase_head(replace(data, on_slate=~data.bought | (data.prediction_point < 800)), CONFIG, random_seed=0)


def test_a_head_is_calibrated_for_the_items_on_slates_and_measured_on_them() -> None:
    """The list ranker puts what users want on slates, by something that the head does not see."""
    head, measured = fit_purchase_head(with_slates(0), CONFIG, random_seed=0)
    unseen = with_slates(1)
    assert unseen.served().bought.mean() > 2 * unseen.bought.mean()
    on_slates = figures(head, unseen.served())
    assert on_slates.calibration_error < 0.03
    assert abs(probabilities(head, unseen.served()).mean() - unseen.served().bought.mean()) < 0.02
    assert measured.examples == int(with_slates(0).split(0.8)[1].on_slate.sum())


def with_slates(random_seed: int) -> PurchaseExamples:
    """All that is bought is on slates, and three tenths of the rest."""
    data = examples(random_seed)
    return replace(data, on_slate=data.bought | (np.random.default_rng(random_seed).random(len(data)) < 0.3))


def test_the_exported_head_predicts_as_the_original(
    learned: tuple[PurchaseClassifier, PurchaseMetrics], tmp_path: Path
) -> None:
    head = learned[0]
    assert export_purchase_head(head, tmp_path)[PURCHASE_HEAD] < 1e-5
    features = examples(random_seed=3, points=6).features.reshape(6, CANDIDATES, 4)
    with torch.no_grad():
        expected = head(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(OnnxPurchaseHead(UnverifiedRelease(tmp_path)).probability(features), expected, atol=1e-5)
