from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from anabranch.messages import REASON_LENGTH
from models.evaluation.contenders import PairedRanks
from models.evaluation.off_policy import MIN_EXPLORED_USERS, ExposureEstimate
from models.evaluation.slices import LARGEST_DOMAINS
from models.gate.release_gate import POOLED, GateRule, decide
from models.gate.requirements import requirements
from models.metrics.bootstrap import Interval
from models.metrics.ranking import Ranks, discounted_gains

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

    return PairedRanks(user, of(candidate), None if incumbent is None else of(incumbent), {"co_visit": of(co_visit)})


def divided(seed: int, slice: str, there: float, elsewhere: float, baseline: float = 0.2) -> PairedRanks:
    """400 users with 10 events on the slice and 10 elsewhere; the candidate hits at these rates."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(400), 20).astype(np.int32)
    on_slice = np.arange(len(user)) % 2 == 0
    candidate = ranks(random, np.where(on_slice, there, elsewhere))
    incumbent, co_visit = (ranks(random, np.full(len(user), baseline)) for _ in range(2))
    return PairedRanks(user, candidate, incumbent, {"co_visit": co_visit}, slices={slice: on_slice})


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
    assert sum(words) <= 4  # 1.25 expected


def test_the_first_release_has_the_co_visit_table_to_beat_and_may_not_be_below_the_best_baseline() -> None:
    first = trial(1, candidate=0.2, incumbent=None)
    assert decide(first, QUICK).accepted
    verdict = decide(trial(1, candidate=0.1, incumbent=None, co_visit=0.2), QUICK)
    assert not verdict.accepted
    assert "NDCG@20 is not significantly above the co-visit table's" in verdict.reason
    better = trial(2, candidate=0.4, incumbent=None).release_candidate
    verdict = decide(replace(first, baselines={**first.baselines, "user_knn": better}), QUICK)
    assert not verdict.accepted
    assert "below the user kNN's" in verdict.reason
    assert "co-visit" not in verdict.reason, "the reason names what failed, and only that"


@pytest.mark.parametrize("of", ["baselines", "seed_models", "earlier"])
def test_beating_the_incumbent_does_not_excuse_losing_to_anything_else(of: str) -> None:
    paired = trial(1, candidate=0.25, incumbent=0.18)
    better = trial(2, candidate=0.3, incumbent=None).release_candidate
    names = {"baselines": "co_visit", "seed_models": "als", "earlier": "r7"}
    verdict = decide(replace(paired, **{of: {names[of]: better}}), QUICK)
    assert not verdict.accepted
    texts = {
        "baselines": "the co-visit table's",
        "seed_models": "seed model als's",
        "earlier": "the earlier release r7's",
    }
    assert "overall NDCG@20 may be more than" in verdict.reason
    assert texts[of] in verdict.reason
    assert "incumbent" not in verdict.reason, "the reason names what failed, and only that"


@pytest.mark.parametrize("of", ["seed_models", "earlier"])
def test_every_seed_model_and_earlier_release_counts_on_every_slice(of: str) -> None:
    """Superior overall, and below one of them where a session begins."""
    paired = divided(1, "first_of_session", there=0.25, elsewhere=0.4)
    on_slice = paired.slices["first_of_session"]
    specialist = ranks(np.random.default_rng(9), np.where(on_slice, 0.35, 0.05))
    assert decide(paired, QUICK).accepted
    verdict = decide(replace(paired, **{of: {"one": specialist}}), QUICK)
    assert not verdict.accepted
    assert "on first_of_session NDCG@20 may be more than" in verdict.reason


def test_ten_small_steps_down_do_not_add_up() -> None:
    """Each release is better than the one before overall, and loses a tenth of a slice: the first of them says no."""
    first = divided(1, "cold_items", there=0.45, elsewhere=0.2, baseline=0.1)
    worn = divided(2, "cold_items", there=0.34, elsewhere=0.5, baseline=0.1)
    incumbent = divided(3, "cold_items", there=0.31, elsewhere=0.4, baseline=0.1)
    paired = replace(worn, incumbent=incumbent.release_candidate)
    assert decide(paired, QUICK).accepted
    verdict = decide(replace(paired, earlier={"r1": first.release_candidate}), QUICK)
    assert not verdict.accepted
    assert "on cold_items NDCG@20 may be more than" in verdict.reason
    assert "earlier release r1's" in verdict.reason


def test_a_loss_on_a_tolerated_slice_is_said_and_does_not_reject() -> None:
    bad = divided(1, "new_to_user", there=0.12, elsewhere=0.4)
    assert not decide(bad, QUICK).accepted
    verdict = decide(bad, replace(QUICK, tolerates=frozenset({"new_to_user"})))
    assert verdict.accepted
    assert "tolerated: new_to_user" in verdict.reason
    lost = [finding for finding in verdict.findings if not finding.holds]
    assert {finding.slice for finding in lost} == {"new_to_user"}
    assert all(finding.tolerated and not finding.rejects for finding in lost)


def test_a_tolerated_slice_of_few_users_is_tested_alone_and_not_with_the_others() -> None:
    bad = divided(1, "cold_items", there=0.02, elsewhere=0.5)
    few = {"cold_items": bad.slices["cold_items"] & (bad.user < 100)}
    paired = replace(bad, slices=few)
    assert not decide(paired, QUICK).accepted
    verdict = decide(paired, replace(QUICK, tolerates=frozenset({"cold_items"})))
    assert verdict.accepted, verdict.reason
    assert "tolerated: cold_items" in verdict.reason
    assert not verdict.pooled


def test_of_the_earlier_releases_the_best_on_a_slice_counts_there() -> None:
    """The best overall is the newest; what it has lost of the slice already does not count."""
    paired = divided(1, "cold_items", there=0.25, elsewhere=0.5)
    on_slice, random = paired.slices["cold_items"], np.random.default_rng(9)
    newest, first = (ranks(random, np.where(on_slice, there, rest)) for there, rest in ((0.25, 0.4), (0.4, 0.1)))
    verdict = decide(replace(paired, earlier={"r1": first, "r2": newest}), QUICK)
    assert not verdict.accepted
    compared = {one.slice: one.comparator for one in verdict.findings if one.comparator.startswith("earlier_")}
    assert compared == {"overall": "earlier_r2", "cold_items": "earlier_r1"}


def test_where_the_window_has_one_day_users_alone_are_drawn_and_it_is_said() -> None:
    paired = trial(1, candidate=0.25, incumbent=0.18)
    week = replace(paired, day=np.arange(len(paired.user)) % 7)
    said = "the window has one day, so intervals are over users alone"
    for one, days in ((paired, 1), (replace(paired, day=np.full(len(paired.user), 17)), 1), (week, 7)):
        verdict = decide(one, QUICK)
        assert {finding.days for finding in verdict.findings} == {days}
        assert (said in verdict.reason) == (days == 1)


def test_a_difference_of_a_single_day_does_not_hold_for_a_week() -> None:
    """Of seven days the candidate is better on one, by much, and equal on the others: users agree, and days do not."""
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(2000), 7).astype(np.int32)
    day = np.tile(np.arange(7), 2000)
    incumbent, co_visit = (ranks(random, np.full(len(user), 0.2)) for _ in range(2))
    candidate = np.where(day == 3, ranks(random, np.full(len(user), 0.6)), incumbent).astype(np.int32)
    paired = PairedRanks(user, candidate, incumbent, {"co_visit": co_visit})
    assert decide(paired, QUICK).accepted
    assert not decide(replace(paired, day=day), QUICK).accepted


def test_fewer_items_than_the_incumbent_shows_are_a_rejection() -> None:
    good = trial(1, candidate=0.25, incumbent=0.18)
    enough, few = (requirements(replace(good, shown_items=(shown, 1000)), {}, {}) for shown in (801, 799))
    assert decide(good, QUICK, required=enough).accepted
    verdict = decide(good, QUICK, required=few)
    assert not verdict.accepted
    assert "shown_items is 799, the incumbent's 1000, the limit 800" in verdict.reason
    assert verdict.numbers["shown_items_candidate"] == 799


def test_worse_probabilities_of_purchase_are_a_rejection() -> None:
    good = trial(1, candidate=0.25, incumbent=0.18)
    incumbent, near, far = ({"purchase": {"calibration_error": error}} for error in (0.01, 0.029, 0.031))
    assert decide(good, QUICK, required=requirements(good, near, incumbent)).accepted
    assert not decide(good, QUICK, required=requirements(good, far, incumbent)).accepted
    assert requirements(good, {}, incumbent) == requirements(good, far, {}) == []


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
    nothing = {"co_visit": np.zeros_like(incumbent)}
    assert decide(PairedRanks(user, slight, incumbent, nothing), QUICK).accepted
    verdict = decide(PairedRanks(user, heavy, incumbent, nothing), QUICK)
    assert not verdict.accepted
    assert "overall recall@20 may be more than 0.0148 (5%) below the incumbent's" in verdict.reason
    assert "NDCG@20" not in verdict.reason


def test_one_enthusiast_does_not_carry_a_candidate() -> None:
    """The candidate is better only for one user, who has as many events as all the others."""
    user = np.concatenate([np.zeros(2000), np.arange(1, 201).repeat(10)]).astype(np.int32)
    incumbent = np.where(np.arange(4000) % 5 == 0, 3, 0).astype(np.int32)
    candidate = np.where((user == 0) & (np.arange(4000) % 5 < 2), 3, incumbent).astype(np.int32)
    with_users = PairedRanks(user, candidate, incumbent, {"co_visit": np.zeros_like(user)})
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
    for name, comparator in product(("ndcg_at_20", "recall_at_20"), ("incumbent", "co_visit")):
        difference = f"{name}_minus_{comparator}"
        assert {f"{difference}{part}" for part in ("", "_low", "_high", "_margin", "_p")} <= set(numbers)


def test_the_notice_has_the_numbers_over_all_events() -> None:
    verdict = decide(divided(1, "task:cart", there=0.3, elsewhere=0.3), QUICK)
    assert "ndcg_at_20_minus_incumbent_low" in verdict.announced
    assert not [name for name in verdict.announced if "task:cart" in name]


@pytest.mark.parametrize(
    "slice", ["task:cart", "domain:garden", "other_domains", "cold_items", "repeat", "new_to_user"]
)
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
        return decide(
            PairedRanks(user, candidate, incumbent, {"co_visit": incumbent}, slices={"cold_items": on_slice}), rule
        ).accepted

    assert decided(every=5)
    assert not decided(every=25)


def test_slices_with_few_users_are_tested_together() -> None:
    bad = divided(1, "domain:garden", there=0.05, elsewhere=0.5)
    on_slice = bad.slices["domain:garden"]
    few = {f"domain:{part}": on_slice & (bad.user // 100 == part) for part in range(3)}
    verdict = decide(replace(bad, slices=few), QUICK)
    assert not verdict.accepted
    assert f"on {POOLED} NDCG@20 may be more than" in verdict.reason
    assert "tested together, for few users: domain:0, domain:1, domain:2" in verdict.reason
    assert verdict.numbers[f"{POOLED}/users"] == 300
    alone = [finding for finding in verdict.findings if finding.slice == "domain:0"]
    assert alone
    assert all(one.holds and one.p is None and one.hypothesis is None for one in alone), "reported"


def test_the_pool_is_tested_however_few_its_users_are() -> None:
    bad = divided(1, "domain:garden", there=0.0, elsewhere=0.5, baseline=0.5)
    few = replace(bad, slices={"domain:garden": bad.slices["domain:garden"] & (bad.user < 40)})
    verdict = decide(few, QUICK)
    assert not verdict.accepted
    assert f"on {POOLED} NDCG@20 may be more than" in verdict.reason


def placed(discover: float, first: float = 0.4, users: int = 400) -> PairedRanks:
    """400 users with 20 events, half of them new to their user: the candidate hits none of these on the first
    placement, whose other events it hits at the rate `first`, and hits at the rate `discover` on a placement for them.
    The others' rate is 0.2 everywhere. `users` have events that are new to them."""
    paired = divided(1, "new_to_user", there=0.0, elsewhere=2 * first)
    random, new = np.random.default_rng(7), paired.slices["new_to_user"] & (paired.user < users)
    candidate, incumbent, co_visit = (ranks(random, np.full(new.sum(), rate)) for rate in (discover, 0.2, 0.2))
    on_discover = PairedRanks(paired.user[new], candidate, incumbent, {"co_visit": co_visit})
    return replace(
        paired,
        slices={"new_to_user": new},
        placements={"discover": on_discover},
        placed_elsewhere=frozenset({"new_to_user"}),
    )


def test_a_candidate_that_is_good_on_every_placement_is_accepted() -> None:
    verdict = decide(placed(discover=0.25), QUICK)
    assert verdict.accepted, verdict.reason
    assert "non-inferior on 1 of 1 slices and placements" in verdict.reason
    assert verdict.numbers["placement:discover/events"] == 4000
    assert (verdict.numbers["events"], verdict.numbers["users"]) == (8000, 400), "those of the first placement"


def test_a_candidate_that_loses_on_one_placement_alone_is_rejected_by_name() -> None:
    verdict = decide(placed(discover=0.1), QUICK)
    assert not verdict.accepted
    assert verdict.reason.startswith("on placement discover NDCG@20 may be more than")
    assert {finding.slice for finding in verdict.findings if finding.rejects} == {"placement:discover"}
    assert decide(placed(discover=0.1), replace(QUICK, tolerates=frozenset({"placement:discover"}))).accepted


@pytest.mark.parametrize("of", ["incumbent", "baselines", "seed_models", "earlier"])
def test_every_comparator_counts_on_every_placement(of: str) -> None:
    good = placed(discover=0.25)
    discover = good.placements["discover"]
    better = ranks(np.random.default_rng(9), np.full(len(discover.user), 0.5))
    worse = np.zeros(len(good.user), np.int32)  # on the first placement
    better_there = {
        "incumbent": (discover.incumbent, better),
        "baselines": (good.baselines | {"user_knn": worse}, discover.baselines | {"user_knn": better}),
        "seed_models": ({"als": worse}, {"als": better}),
        "earlier": ({"r2": good.release_candidate, "r1": worse}, {"r2": discover.release_candidate, "r1": better}),
    }
    on_first, on_discover = better_there[of]
    others = {} if of == "incumbent" else {of: on_first}
    paired = replace(good, placements={"discover": replace(discover, **{of: on_discover})}, **others)
    verdict = decide(paired, QUICK)
    assert not verdict.accepted
    lost = {finding.comparator for finding in verdict.findings if finding.rejects}
    names = {"incumbent": "incumbent", "baselines": "user_knn", "seed_models": "seed_als", "earlier": "earlier_r1"}
    assert lost == {names[of]}
    assert {finding.slice for finding in verdict.findings if finding.rejects} == {"placement:discover"}


def test_a_slice_that_a_further_placement_is_for_is_only_reported() -> None:
    paired = placed(discover=0.25)
    lost = [finding for finding in decide(paired, QUICK).findings if finding.slice == "new_to_user"]
    assert lost
    assert all(finding.difference < -0.05 and finding.hypothesis is None and finding.holds for finding in lost)
    few = replace(paired, slices={"new_to_user": paired.slices["new_to_user"] & (paired.user < 100)})
    assert not decide(few, QUICK).pooled, "not tested with others either"
    verdict = decide(replace(paired, placed_elsewhere=frozenset()), QUICK)
    assert not verdict.accepted
    assert "on new_to_user NDCG@20 may be more than" in verdict.reason


def test_a_placement_with_few_users_is_tested_together_with_small_slices() -> None:
    bad = placed(discover=0.02, users=120)
    verdict = decide(bad, QUICK)
    assert not verdict.accepted
    assert f"on {POOLED} NDCG@20 may be more than" in verdict.reason
    assert "tested together, for few users: placement discover" in verdict.reason
    alone = [finding for finding in verdict.findings if finding.slice == "placement:discover"]
    assert alone
    assert all(finding.hypothesis is None for finding in alone), "reported"
    good = placed(discover=0.25, users=120)
    domain = {"domain:garden": ~good.slices["new_to_user"] & (good.user < 150)}
    verdict = decide(replace(good, slices=good.slices | domain), QUICK)
    assert verdict.accepted, verdict.reason
    assert verdict.pooled == ("domain:garden", "placement:discover")
    in_pool = domain["domain:garden"].sum() + len(good.placements["discover"].user)
    assert verdict.numbers[f"{POOLED}/events"] == in_pool


def test_a_placement_without_events_has_no_finding() -> None:
    verdict = decide(placed(discover=0.25, users=0), QUICK)
    assert verdict.accepted, verdict.reason
    assert verdict.numbers["placement:discover/events"] == 0
    assert {finding.slice for finding in verdict.findings} == {"overall"}


def test_nothing_can_be_below_a_comparator_that_has_nothing() -> None:
    some = divided(1, "cold_items", there=0.4, elsewhere=0.4)
    on_slice = some.slices["cold_items"]
    nothing = replace(
        some,
        release_candidate=np.where(on_slice, 0, some.release_candidate).astype(np.int32),
        incumbent=np.where(on_slice, 0, some.incumbent).astype(np.int32),
        baselines={"co_visit": np.where(on_slice, 0, some.baselines["co_visit"]).astype(np.int32)},
    )
    assert decide(nothing, QUICK).accepted


def test_a_slice_without_events_has_no_finding() -> None:
    some = divided(1, "cold_items", there=0.4, elsewhere=0.4)
    verdict = decide(replace(some, slices={"cold_items": np.zeros(len(some.user), np.bool_)}), QUICK)
    assert verdict.accepted
    assert verdict.numbers["cold_items/events"] == 0
    assert {finding.slice for finding in verdict.findings} == {"overall"}


def test_every_difference_is_a_finding_with_its_hypothesis_and_result() -> None:
    """Bad on the slice alone."""
    verdict = decide(divided(1, "cold_items", there=0.12, elsewhere=0.4), QUICK)
    hypothesis = {(one.slice, one.metric, one.comparator): one.hypothesis for one in verdict.findings}
    assert len(hypothesis) == len(verdict.findings) == 6
    assert hypothesis.pop(("overall", "ndcg_at_20", "incumbent")) == "superior"
    assert set(hypothesis.values()) == {"non_inferior"}
    assert {one.slice for one in verdict.findings if not one.holds} == {"cold_items"}
    one = next(one for one in verdict.findings if one.slice == "cold_items")
    assert one.difference < one.margin < 0
    assert one.p is not None and one.p > 0.05
    overall = next(one for one in verdict.findings if one.metric == "recall_at_20" and one.comparator == "incumbent")
    name = "recall_at_20_minus_incumbent"
    assert [overall.difference, overall.low, overall.margin, overall.p] == [
        verdict.numbers[f"{name}{part}"] for part in ("", "_low", "_margin", "_p")
    ]


def test_the_largest_number_of_slices_does_not_reject_a_superior_candidate() -> None:
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(60), 60).astype(np.int32)
    names = ["task:view", "task:cart", "task:purchase", *(f"domain:{at}" for at in range(LARGEST_DOMAINS))]
    slices = {name: np.arange(len(user)) % 30 == at for at, name in enumerate([*names, "other_domains", "cold_items"])}
    candidate, incumbent, co_visit = (ranks(random, np.full(len(user), rate)) for rate in (0.9, 0.1, 0.1))
    paired = PairedRanks(user, candidate, incumbent, {"co_visit": co_visit}, slices=slices)
    verdict = decide(paired, GateRule(slice_users=60))
    assert verdict.accepted, verdict.reason
    assert "non-inferior on 25 of 25 slices" in verdict.reason


def test_a_reason_is_one_line_of_bounded_length() -> None:
    one = divided(1, "cold_items", there=0.05, elsewhere=0.1)
    slices = {f"domain:{'x' * 500}{at}": one.slices["cold_items"] for at in range(5)}
    reason = decide(replace(one, slices=slices), QUICK).reason
    assert len(reason) <= REASON_LENGTH
    assert "\n" not in reason
    assert reason.startswith("NDCG@20 is not significantly above the incumbent's")


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
