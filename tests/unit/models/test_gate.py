from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.evaluation.metrics import Ranks
from models.evaluation.protocols import Trial
from models.gate import GateRule, decide

QUICK = GateRule(samples=400)


def ranks(random: np.random.Generator, hit_rates: np.ndarray) -> Ranks:
    """Places 1 to 20 for hits, drawn evenly; 0 for the others."""
    hit = random.random(len(hit_rates)) < hit_rates
    return np.where(hit, random.integers(1, 21, size=len(hit)), 0).astype(np.int32)


def trial(
    seed: int, candidate: float, incumbent: float | None, co_visit: float = 0.1, users: int = 400, spread: float = 0.05
) -> Trial:
    """20 events a user; `spread` is how far users differ in how well anyone does on them."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), 20).astype(np.int32)
    ease = random.normal(0, spread, users)[user]

    def of(rate: float) -> Ranks:
        return ranks(random, np.clip(rate + ease, 0, 1))

    return Trial(user, of(candidate), None if incumbent is None else of(incumbent), of(co_visit))


def test_a_candidate_that_is_better_passes() -> None:
    verdict = decide(trial(1, candidate=0.25, incumbent=0.18), QUICK)
    assert verdict.accepted, verdict.reason
    assert verdict.numbers["ndcg_at_20_minus_incumbent_low"] > 0
    assert verdict.numbers["recall_at_20_minus_co_visit_low"] > 0


def test_an_equal_candidate_passes_one_time_in_forty() -> None:
    words = [decide(trial(seed, 0.2, 0.2, users=150), QUICK).accepted for seed in range(300)]
    assert np.mean(words) <= 0.06  # 0.025 and three standard errors of 300 trials


def test_the_first_release_has_only_the_co_visit_table_to_beat() -> None:
    assert decide(trial(1, candidate=0.2, incumbent=None), QUICK).accepted
    verdict = decide(trial(1, candidate=0.1, incumbent=None, co_visit=0.2), QUICK)
    assert not verdict.accepted
    assert "ndcg_at_20 - co_visit" in verdict.reason


def test_beating_the_incumbent_does_not_excuse_losing_to_the_co_visit_table() -> None:
    verdict = decide(trial(1, candidate=0.25, incumbent=0.18, co_visit=0.25), QUICK)
    assert not verdict.accepted
    assert "incumbent" not in verdict.reason, "the reason names what failed, and only that"


def test_a_rejection_gives_its_numbers() -> None:
    verdict = decide(trial(1, candidate=0.15, incumbent=0.2), QUICK)
    assert not verdict.accepted
    low, high = (verdict.numbers[f"ndcg_at_20_minus_incumbent_{end}"] for end in ("low", "high"))
    assert f"[{low:+.4f}, {high:+.4f}], not above 0" in verdict.reason
    assert (verdict.numbers["events"], verdict.numbers["users"]) == (8000, 400)


def test_recall_may_fall_within_its_margin_and_no_further() -> None:
    """NDCG rises as all hits move to the top; recall falls by one hit in fifty, then by one in ten."""
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(2000), 20).astype(np.int32)
    incumbent = np.where(random.random(len(user)) < 0.3, 10, 0).astype(np.int32)
    kept = random.random(len(user))
    slight, heavy = (np.where((incumbent > 0) & (kept < share), 1, 0).astype(np.int32) for share in (0.98, 0.9))
    nothing = np.zeros_like(incumbent)
    rule = replace(QUICK, margin=0.01)
    assert decide(Trial(user, slight, incumbent, nothing), rule).accepted
    verdict = decide(Trial(user, heavy, incumbent, nothing), rule)
    assert not verdict.accepted
    assert "recall_at_20" in verdict.reason
    assert "ndcg_at_20" not in verdict.reason


def test_one_enthusiast_does_not_carry_a_candidate() -> None:
    """The candidate is better only for one user, who has as many events as all the others."""
    user = np.concatenate([np.zeros(2000), np.arange(1, 201).repeat(10)]).astype(np.int32)
    incumbent = np.where(np.arange(4000) % 5 == 0, 3, 0).astype(np.int32)
    candidate = np.where((user == 0) & (np.arange(4000) % 5 < 2), 3, incumbent).astype(np.int32)
    with_users = Trial(user, candidate, incumbent, np.zeros_like(user))
    without_users = replace(with_users, user=np.arange(4000, dtype=np.int32))
    assert not decide(with_users, QUICK).accepted
    assert decide(without_users, QUICK).accepted


@pytest.mark.parametrize("users", [0, 1, 49])
def test_too_few_users_are_a_rejection_that_says_so(users: int) -> None:
    verdict = decide(trial(1, candidate=0.9, incumbent=0.1, users=users), QUICK)
    assert not verdict.accepted
    assert f"{users} users" in verdict.reason
    assert verdict.numbers["users"] == users


def test_an_equal_trial_gives_an_equal_verdict() -> None:
    assert decide(trial(1, 0.2, 0.18), QUICK) == decide(trial(1, 0.2, 0.18), QUICK)


def test_every_number_is_finite_and_named() -> None:
    numbers = decide(trial(1, 0.2, 0.18), QUICK).numbers
    assert all(np.isfinite(value) for value in numbers.values())
    assert {"ndcg_at_20_candidate", "recall_at_20_incumbent", "ndcg_at_20_co_visit", "events", "users"} <= set(numbers)
