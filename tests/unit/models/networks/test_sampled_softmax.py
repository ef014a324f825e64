from __future__ import annotations

import numpy as np
import pytest
import torch

from models.networks.sampled_softmax import (
    CHUNK,
    EXCLUDED,
    Negatives,
    NegativeSampler,
    Targets,
    choice_logits,
    sampled_softmax,
)
from tests.support.choices import SHARES, learned_shares

DRAWS = 200_000


def a_catalogue() -> tuple[NegativeSampler, torch.Tensor, torch.Tensor]:
    """Twenty items of very different popularity, and a user."""
    torch.manual_seed(0)
    sampler = NegativeSampler.from_items(np.repeat(np.arange(20), np.arange(1, 21) ** 2), 20)
    return sampler, torch.randn(1, 4), torch.randn(20, 4)


def sampled(vectors: torch.Tensor, sampler: NegativeSampler) -> Negatives:
    return sampler.sample(DRAWS, np.random.default_rng(0), lambda drawn: vectors[torch.from_numpy(drawn)])


def test_negatives_are_sampled_half_by_popularity_and_half_uniformly() -> None:
    items = np.array([3] * 90 + [5] * 10)
    negatives = NegativeSampler.from_items(items, 8)
    drawn = negatives.sample(10_000, np.random.default_rng(0), lambda drawn: torch.zeros(len(drawn), 1)).items
    assert set(drawn) == {3, 5}
    assert abs((drawn == 3).mean() - 0.7) < 0.02
    assert abs(float(negatives.log_probability[3].exp()) - 0.7) < 1e-6


def test_the_loss_without_targets_is_0_and_has_a_gradient() -> None:
    users = torch.zeros(0, 3, requires_grad=True)
    negatives = Negatives(np.arange(5), torch.ones(5, 3), torch.zeros(5))
    loss = sampled_softmax(users, Targets(np.empty(0, np.int64), torch.zeros(0, 3)), negatives)
    loss.backward()
    assert loss.item() == 0


def test_a_negative_that_is_the_target_does_not_count() -> None:
    users, vectors = torch.randn(2, 4), torch.randn(3, 4)
    negatives = Negatives(np.array([0, 2, 0, 1]), vectors[[0, 2, 0, 1]], torch.zeros(4))
    logits = choice_logits(users, Targets(np.array([0, 1]), vectors[[0, 1]]), negatives)
    assert (logits == EXCLUDED).tolist() == [[False, True, False, True, False], [False, False, False, False, True]]
    assert torch.softmax(logits, dim=1)[0, 1] == 0


def test_the_sampled_sum_is_an_unbiased_estimate_of_the_sum_over_all_items() -> None:
    """Popular items are drawn more often, and count less each time; the target is drawn too."""
    sampler, user, vectors = a_catalogue()
    negatives = sampled(vectors, sampler)
    estimate = choice_logits(user, Targets(np.array([19]), vectors[19:]), negatives).exp().sum()
    assert float(estimate) == pytest.approx(float((user @ vectors.T).exp().sum()), rel=0.01)


def test_a_small_catalogue_is_not_sampled_and_its_sum_is_exact() -> None:
    sampler, user, vectors = a_catalogue()
    negatives = sampler.draw(5, np.random.default_rng(0), lambda drawn: vectors[torch.from_numpy(drawn)])
    total = choice_logits(user, Targets(np.array([19]), vectors[19:]), negatives).exp().sum()
    assert float(total) == pytest.approx(float((user @ vectors.T).exp().sum()), rel=1e-5)
    assert len(sampler.draw(4, np.random.default_rng(0), lambda drawn: torch.zeros(len(drawn), 1))) == 4


@pytest.mark.parametrize("points", [3, CHUNK, 2 * CHUNK + 1])
def test_the_loss_and_its_gradient_are_those_of_the_logits(points: int) -> None:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    chosen, drawn = random.integers(9, size=points), random.integers(9, size=6)
    users, catalogue = torch.randn(points, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
    targets = Targets(chosen, catalogue[torch.from_numpy(chosen)])
    negatives = Negatives(drawn, catalogue[torch.from_numpy(drawn)], torch.randn(6))
    logits = choice_logits(users, targets, negatives)
    expected = (torch.logsumexp(logits, dim=1) - logits[:, 0]).mean()
    loss = sampled_softmax(users, targets, negatives)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for _ in range(2):  # a strategy may ask for the gradient twice
        ours = torch.autograd.grad(loss, (users, catalogue), retain_graph=True)
        torch.testing.assert_close(ours, torch.autograd.grad(expected, (users, catalogue), retain_graph=True))


def test_the_sum_over_a_part_of_the_items_is_estimated_without_bias_too() -> None:
    sampler, user, vectors = a_catalogue()
    part, negatives = np.arange(20) % 3 == 0, sampled(vectors, sampler)
    negatives = negatives.only(part[negatives.items])
    estimate = negatives.logits(user, torch.zeros(1, len(negatives), dtype=torch.bool)).exp().sum()
    assert float(estimate) == pytest.approx(float((user @ vectors[part].T).exp().sum()), rel=0.01)


def test_the_loss_is_lowest_at_the_true_probabilities() -> None:
    """One item is chosen half of the time, and fifty others share the rest."""

    def loss(logits: torch.Tensor, targets: Targets, negatives: Negatives) -> torch.Tensor:
        return sampled_softmax(logits.expand(len(targets.items), -1), targets, negatives)

    assert learned_shares(loss)[0] == pytest.approx(SHARES[0], abs=0.02)


def test_logits_of_excluded_negatives_can_be_compared() -> None:
    """A divergence between two distributions without one item is finite, and has no gradient from it."""
    users = torch.randn(3, 4, requires_grad=True)
    negatives = Negatives(np.arange(5), torch.randn(5, 4), torch.zeros(5))
    targets = Targets(np.array([0, 1, 2]), negatives.vectors[:3])
    choice = torch.log_softmax(choice_logits(users, targets, negatives), dim=1)
    divergence = torch.nn.functional.kl_div(choice, choice.detach(), reduction="batchmean", log_target=True)
    divergence.backward()
    assert divergence.detach().isfinite()
    assert users.grad is not None
    assert users.grad.isfinite().all()
