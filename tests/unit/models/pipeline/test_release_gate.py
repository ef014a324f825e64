from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from anabranch.messages import REASON_LENGTH
from models.evaluation.contenders import PairedRanks
from models.evaluation.off_policy import MIN_EXPLORED_USERS, ExposureEstimate
from models.evaluation.slices import LARGEST_DOMAINS
from models.metrics.bootstrap import Interval, NonInferiorityMargin
from models.metrics.ranking import Ranks, discounted_gains
from models.pipeline.release_gate import GateRule, decide, holm

QUICK = GateRule(samples=400)


def ranks(random: np.random.Generator, hit_rates: np.ndarray) -> Ranks:
    """Places 1 to 20 for hits, drawn evenly; 0 for the others."""
    hit = random.random(len(hit_rates)) < hit_rates
    return np.where(hit, random.integers(1, 21, size=len(hit)), 0).astype(np.int32)


def trial(
    seed: int, candidate: float, incumbent: float | None, co_visit: float = 0.1, users: int = 400, spread: float = 0.05
) -> PairedRanks:
    """20 events a user; `spread` is how far users differ in how well anyone does on them."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), 20).astype(np.int32)
    ease = random.normal(0, spread, users)[user]

    def of(rate: float) -> Ranks:
        return ranks(random, np.clip(rate + ease, 0, 1))

    return PairedRanks(user, of(candidate), None if incumbent is None else of(incumbent), of(co_visit))


def divided(seed: int, slice: str, there: float, elsewhere: float, baseline: float = 0.2) -> PairedRanks:
    """400 users with 10 events on the slice and 10 elsewhere; the candidate hits at these rates."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(400), 20).astype(np.int32)
    on_slice = np.arange(len(user)) % 2 == 0
    baselines = (ranks(random, np.full(len(user), baseline)) for _ in range(2))
    return PairedRanks(user, ranks(random, np.where(on_slice, there, elsewhere)), *baselines, {slice: on_slice})


@pytest.fixture(autouse=True)
def short_collections() -> Iterator[None]:
    """statsmodels collects garbage at every correction: a quarter of a second, unless what is there now is left out."""
    gc.freeze()
    yield
    gc.unfreeze()


def test_a_superior_candidate_is_accepted() -> None:
    verdict = decide(trial(1, candidate=0.25, incumbent=0.18), QUICK)
    assert verdict.accepted, verdict.reason
    assert verdict.numbers["ndcg_at_20_minus_incumbent_low"] > 0
    assert verdict.numbers["recall_at_20_minus_co_visit_low"] > 0


def test_an_equal_candidate_is_accepted_one_time_in_forty() -> None:
    words = [decide(trial(seed, 0.2, 0.2, users=100), replace(QUICK, samples=200)).accepted for seed in range(300)]
    assert np.mean(words) <= 0.06  # 0.025 and three standard errors of 300 trials


def test_slices_do_not_make_an_equal_candidate_pass_more_often() -> None:
    rule = GateRule(samples=200)
    words = [decide(divided(seed, "cold_items", there=0.2, elsewhere=0.2), rule).accepted for seed in range(50)]
    assert sum(words) <= 4  # 1.25 expected of one baseline alone, fewer of two


def test_the_first_release_has_only_the_co_visit_table_to_beat() -> None:
    assert decide(trial(1, candidate=0.2, incumbent=None), QUICK).accepted
    verdict = decide(trial(1, candidate=0.1, incumbent=None, co_visit=0.2), QUICK)
    assert not verdict.accepted
    assert "NDCG@20 is not significantly above the co-visit table's" in verdict.reason


def test_beating_the_incumbent_does_not_excuse_losing_to_the_co_visit_table() -> None:
    verdict = decide(trial(1, candidate=0.25, incumbent=0.18, co_visit=0.25), QUICK)
    assert not verdict.accepted
    assert "incumbent" not in verdict.reason, "the reason names what failed, and only that"


def test_a_rejection_gives_its_numbers() -> None:
    verdict = decide(trial(1, candidate=0.15, incumbent=0.2), QUICK)
    assert not verdict.accepted
    difference, low, high = (verdict.numbers[f"ndcg_at_20_minus_incumbent{end}"] for end in ("", "_low", "_high"))
    assert (
        f"NDCG@20 is not significantly above the incumbent's: {difference:+.4f} [{low:+.4f}, {high:+.4f}]"
        in verdict.reason
    )
    assert (verdict.numbers["events"], verdict.numbers["users"]) == (8000, 400)


def test_recall_may_fall_within_its_margin_and_no_further() -> None:
    """NDCG rises as all hits move to the top; recall falls by one hit in fifty, then by one in ten."""
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(2000), 20).astype(np.int32)
    incumbent = np.where(random.random(len(user)) < 0.3, 10, 0).astype(np.int32)
    kept = random.random(len(user))
    slight, heavy = (np.where((incumbent > 0) & (kept < share), 1, 0).astype(np.int32) for share in (0.98, 0.9))
    nothing = np.zeros_like(incumbent)
    rule = replace(QUICK, recall_margin=NonInferiorityMargin(fixed=0.01))
    assert decide(PairedRanks(user, slight, incumbent, nothing), rule).accepted
    verdict = decide(PairedRanks(user, heavy, incumbent, nothing), rule)
    assert not verdict.accepted
    assert "overall recall@20 may be more than 0.0100 below the incumbent's" in verdict.reason
    assert "NDCG@20" not in verdict.reason


def test_one_enthusiast_does_not_carry_a_candidate() -> None:
    """The candidate is better only for one user, who has as many events as all the others."""
    user = np.concatenate([np.zeros(2000), np.arange(1, 201).repeat(10)]).astype(np.int32)
    incumbent = np.where(np.arange(4000) % 5 == 0, 3, 0).astype(np.int32)
    candidate = np.where((user == 0) & (np.arange(4000) % 5 < 2), 3, incumbent).astype(np.int32)
    with_users = PairedRanks(user, candidate, incumbent, np.zeros_like(user))
    without_users = replace(with_users, user=np.arange(4000, dtype=np.int32))
    assert not decide(with_users, QUICK).accepted
    assert decide(without_users, QUICK).accepted


@pytest.mark.parametrize("users", [0, 1, 49])
def test_too_few_users_are_a_rejection_that_says_so(users: int) -> None:
    verdict = decide(trial(1, candidate=0.9, incumbent=0.1, users=users), QUICK)
    assert not verdict.accepted
    assert f"{users} users" in verdict.reason
    assert verdict.numbers["users"] == users


def test_equal_ranks_give_an_equal_verdict() -> None:
    assert decide(trial(1, 0.2, 0.18), QUICK) == decide(trial(1, 0.2, 0.18), QUICK)


def test_every_number_is_finite_and_named() -> None:
    numbers = decide(divided(1, "task:cart", there=0.3, elsewhere=0.3), QUICK).numbers
    assert all(np.isfinite(value) for value in numbers.values())
    assert {"ndcg_at_20_candidate", "recall_at_20_incumbent", "ndcg_at_20_co_visit", "events", "users"} <= set(numbers)
    assert {"task:cart/events", "task:cart/users"} <= set(numbers)
    for slice, metric, baseline in product(("", "task:cart/"), ("ndcg", "recall"), ("incumbent", "co_visit")):
        difference = f"{slice}{metric}_at_20_minus_{baseline}"
        assert {f"{difference}{part}" for part in ("", "_low", "_high", "_margin", "_p")} <= set(numbers)


@pytest.mark.parametrize("slice", ["task:cart", "domain:garden", "other_domains", "cold_items"])
def test_a_candidate_superior_overall_and_inferior_on_a_slice_is_rejected_and_the_reason_names_it(slice: str) -> None:
    verdict = decide(divided(1, slice, there=0.12, elsewhere=0.4), QUICK)
    assert verdict.numbers["ndcg_at_20_minus_incumbent_low"] > 0
    assert not verdict.accepted
    assert f"on {slice} NDCG@20 may be more than" in verdict.reason
    assert "overall" not in verdict.reason, "the reason names what failed, and only that"


@pytest.mark.parametrize("slice", ["task:cart", "domain:garden", "cold_items"])
def test_a_candidate_superior_overall_and_equal_on_a_slice_is_accepted(slice: str) -> None:
    verdict = decide(divided(2, slice, there=0.22, elsewhere=0.4), QUICK)
    assert verdict.accepted, verdict.reason
    assert "non-inferior on 1 of 1 slices" in verdict.reason


@pytest.mark.parametrize("slice", ["repeat", "new_to_user"])
def test_what_repeats_may_be_traded_for_what_is_new_but_is_reported(slice: str) -> None:
    verdict = decide(divided(1, slice, there=0.12, elsewhere=0.4), QUICK)
    assert verdict.accepted, verdict.reason
    assert verdict.numbers[f"{slice}/ndcg_at_20_minus_incumbent_high"] < 0
    assert verdict.numbers[f"{slice}/ndcg_at_20_minus_incumbent_p"] > 0.9


def test_a_slice_may_lose_a_share_of_what_is_reached_on_it() -> None:
    """Every fifth user loses one hit: of five each, a twenty-fifth of all; of one each, a fifth."""
    rule = replace(QUICK, samples=1000)
    user = np.repeat(np.arange(400), 50).astype(np.int32)
    rare, on_slice = np.arange(len(user)) % 50, np.arange(len(user)) % 50 < 25

    def decided(every: int) -> bool:
        incumbent = np.where(rare % every == 0, 5, 0).astype(np.int32)
        candidate = np.where(on_slice, incumbent, 1).astype(np.int32)
        candidate[on_slice & (user % 5 == 0) & (rare == 0)] = 0
        assert (discounted_gains(candidate, 20) - discounted_gains(incumbent, 20))[on_slice].mean() < 0
        return decide(PairedRanks(user, candidate, incumbent, incumbent, {"cold_items": on_slice}), rule).accepted

    assert decided(every=5)
    assert not decided(every=25)


def test_a_slice_with_few_users_is_reported_and_not_tested_and_the_reason_says_so() -> None:
    bad = divided(1, "domain:garden", there=0.05, elsewhere=0.5)
    few = replace(bad, slices={"domain:garden": bad.slices["domain:garden"] & (bad.user < 40)})
    verdict = decide(few, QUICK)
    assert verdict.accepted
    assert "not tested, with fewer than 200 users: domain:garden (40)" in verdict.reason
    assert verdict.numbers["domain:garden/users"] == 40
    assert verdict.numbers["domain:garden/ndcg_at_20_minus_incumbent"] < 0
    assert not [
        name for name in verdict.numbers if name.startswith("domain:garden/") and name.endswith(("_p", "_holm"))
    ]


def test_a_slice_without_events_is_listed_as_not_tested() -> None:
    some = divided(1, "cold_items", there=0.4, elsewhere=0.4)
    verdict = decide(replace(some, slices={"cold_items": np.zeros(len(some.user), np.bool_)}), QUICK)
    assert verdict.accepted
    assert "cold_items (0)" in verdict.reason
    assert verdict.numbers["cold_items/events"] == 0


def test_every_difference_is_a_finding_with_its_hypothesis_and_result() -> None:
    """Bad on the slice alone."""
    verdict = decide(divided(1, "cold_items", there=0.12, elsewhere=0.4), QUICK)
    hypothesis = {(one.slice, one.metric, one.baseline): one.hypothesis for one in verdict.findings}
    assert len(hypothesis) == len(verdict.findings) == 8
    for baseline in ("co_visit", "incumbent"):
        assert hypothesis["overall", "ndcg_at_20", baseline] == "superior"
        assert (
            hypothesis["overall", "recall_at_20", baseline]
            == hypothesis["cold_items", "ndcg_at_20", baseline]
            == "non_inferior"
        )
        assert hypothesis["cold_items", "recall_at_20", baseline] is None
    assert {one.slice for one in verdict.findings if not one.holds} == {"cold_items"}
    one = next(one for one in verdict.findings if one.slice == "cold_items" and one.metric == "ndcg_at_20")
    name = f"cold_items/ndcg_at_20_minus_{one.baseline}"
    assert [one.difference, one.low, one.margin, one.p, one.p_holm] == [
        verdict.numbers[f"{name}{part}"] for part in ("", "_low", "_margin", "_p", "_p_holm")
    ]


def test_a_difference_on_a_slice_that_is_not_tested_holds_and_has_no_p_value() -> None:
    bad = divided(1, "domain:garden", there=0.05, elsewhere=0.5)
    few = replace(bad, slices={"domain:garden": bad.slices["domain:garden"] & (bad.user < 40)})
    untested = [one for one in decide(few, QUICK).findings if one.slice == "domain:garden"]
    assert untested
    assert all(one.holds and one.p is None and one.hypothesis is None for one in untested)


def test_holms_correction_is_the_one_worked_out_by_hand() -> None:
    """Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04; the last may not be below the one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.4]) == pytest.approx([0.8, 0.8])


def test_all_that_is_to_be_not_worse_is_corrected_together() -> None:
    """Recall overall and NDCG on the slice, each to both baselines."""
    numbers = decide(divided(3, "cold_items", there=0.19, elsewhere=0.25), QUICK).numbers
    corrected = [name.removesuffix("_holm") for name in numbers if name.endswith("_p_holm")]
    assert sorted(corrected) == sorted(
        f"{name}_{baseline}_p"
        for name in ("recall_at_20_minus", "cold_items/ndcg_at_20_minus")
        for baseline in ("co_visit", "incumbent")
    )
    assert [numbers[f"{name}_holm"] for name in corrected] == holm([numbers[name] for name in corrected])


def test_the_largest_number_of_slices_does_not_reject_a_superior_candidate() -> None:
    """The bootstrap has samples enough for the smallest p-value to survive the correction."""
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(60), 60).astype(np.int32)
    names = ["task:view", "task:cart", "task:purchase", *(f"domain:{at}" for at in range(LARGEST_DOMAINS))]
    slices = {name: np.arange(len(user)) % 30 == at for at, name in enumerate([*names, "other_domains", "cold_items"])}
    candidate, *baselines = (ranks(random, np.full(len(user), rate)) for rate in (0.9, 0.1, 0.1))
    verdict = decide(PairedRanks(user, candidate, *baselines, slices), GateRule(slice_users=60))
    assert verdict.accepted, verdict.reason
    assert "non-inferior on 25 of 25 slices" in verdict.reason


def test_a_reason_is_one_line_of_bounded_length() -> None:
    one = divided(1, "cold_items", there=0.05, elsewhere=0.1)
    slices = {f"domain:{'x' * 500}{at}": one.slices["cold_items"] for at in range(5)}
    reason = decide(replace(one, slices=slices), QUICK).reason
    assert len(reason) <= REASON_LENGTH
    assert "\n" not in reason
    assert reason.startswith("NDCG@20 is not significantly above the co-visit table's")


def estimated(difference: float, users: int = MIN_EXPLORED_USERS) -> ExposureEstimate:
    """An estimate of candidate minus incumbent whose interval reaches 0.01 to both sides."""
    return ExposureEstimate(
        events=5_000,
        explored_events=2 * users,
        explored_users=users,
        effective_events=1_000.0,
        candidate=0.2 + difference,
        incumbent=0.2,
        improvement=Interval(difference=difference, low=difference - 0.01, high=difference + 0.01),
    )


@pytest.mark.parametrize(
    ("estimate", "accepted"),
    [
        (None, True),
        (estimated(-0.02), False),
        (estimated(-0.009), True),
        (estimated(0.02), True),
        (estimated(-0.02, users=MIN_EXPLORED_USERS - 1), True),
    ],
    ids=["none", "significantly below", "not significantly below", "above", "below, of too few users"],
)
def test_a_candidate_that_the_replay_prefers_may_not_be_below_by_the_estimate_from_explored_places(
    estimate: ExposureEstimate | None, accepted: bool
) -> None:
    verdict = decide(trial(1, candidate=0.25, incumbent=0.18), QUICK, estimate)
    assert verdict.accepted is accepted
    says_so = "NDCG@20 estimated from explored places is significantly below the incumbent's: -0.0200" in verdict.reason
    assert says_so is not accepted
    assert verdict.exposure == estimate
    exposure_numbers = {name: value for name, value in verdict.numbers.items() if name.startswith("exposure/")}
    assert exposure_numbers == ({} if estimate is None else estimate.numbers())


def test_a_good_estimate_from_explored_places_does_not_replace_the_replay() -> None:
    assert not decide(trial(1, candidate=0.18, incumbent=0.18), QUICK, estimated(0.1)).accepted
