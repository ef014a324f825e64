from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from models.evaluation.off_policy import ExposureEstimate
from models.gate.release_gate import Verdict
from models.metrics.bootstrap import Interval
from models.report.page import render, write
from models.report.words import signed
from tests.support.reports import CURVES, PURCHASE, SEEDS, SLICES, Page, finding, known, report, verdict

EVERYTHING = {"known": known(), "curves": CURVES, "heads": {"purchase": PURCHASE}, "parent": "r0006"}
ALL = ("incumbent", "personal_frequency", "seed_als", "earlier_r0003")
NONE = "\N{EN DASH}"


def test_a_report_names_the_decision_and_the_reason() -> None:
    text = Page.of(report(verdict(), **EVERYTHING)).text
    assert "✓ Released" in text
    assert "r0007 goes live and replaces r0006." in text
    assert verdict().reason in text


def test_a_report_of_a_rejected_candidate_says_what_failed_and_what_goes_on_serving() -> None:
    text = Page.of(report(verdict(worse=["cold_items"]), **EVERYTHING)).text
    assert "✗ Rejected" in text
    assert "r0007 does not serve; r0006 stays live." in text
    assert "On cold_items its NDCG@20 is 0.0333 below the incumbent's" in text
    assert "it may be worse by more than the margin of 0.0082 (10%)" in text
    assert "what fails is cold_items" in text


def test_a_report_without_a_gate_says_that_nobody_judged() -> None:
    page = Page.of(report(known=known()))
    assert "No gate has judged this release" in page.text
    assert "The gate's tests" not in page.headings


@pytest.mark.parametrize("given", [{}, {"known": known()}, {"curves": CURVES}, {"absent": {"purchase": "no <event>"}}])
def test_a_report_has_only_the_sections_that_something_is_known_of(given: dict) -> None:
    headings = set(Page.of(report(**given)).headings)
    assert ("Improvement by sharing" in headings) == ("known" in given)
    assert ("Learning curves" in headings) == ("curves" in given)
    assert ("Purchase head" in headings) == ("absent" in given)
    assert {"Seed models and the shared ranking", "Training time", "Training data and settings"} <= headings


def test_too_few_users_for_a_verdict_are_told_without_a_table_of_tests() -> None:
    few = Verdict(False, "the gate's window has 12 users with slates", {"users": 12.0, "events": 34.0})
    page = Page.of(report(few))
    assert "the gate's window has 12 users with slates" in page.text
    assert "The gate's tests" not in page.headings


def test_text_from_elsewhere_is_escaped() -> None:
    html = render(report(verdict(worse=SLICES[2:3]), **EVERYTHING))
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    page = Page(html)
    assert page.count("script") == 0
    assert SLICES[2] in page.text, "and is read as it was written"


def test_a_reason_with_markup_is_shown_and_not_obeyed() -> None:
    page = Page.of(report(verdict()))
    assert "it <b>is</b>" in page.text
    assert page.count("b") == 0


def test_every_seed_appears_beside_the_shared_ranking_the_best_first() -> None:
    rows = {row[0]: row[2:] for row in Page.of(report(known=known())).rows if len(row) == 5}
    assert list(rows)[1:] == ["shared", *SEEDS]
    assert rows["shared"] == ["1.0000", "1.0000", "1.0000"]
    assert rows["co_visit"] == ["0.6309", "1.0000", "0.5000"], "the item stood second: 1 / log2(3), and 1 / 2"


def test_what_sharing_added_is_told_for_every_seed_on_every_slice_with_its_interval() -> None:
    page = Page.of(report(known=known()))
    leads = [row for row in page.rows if len(row) == 3 and row[2] == f"+0.0123 {signed(-0.0045)} to +0.0291"]
    assert [row[0] for row in leads] == [f"{slice} 300 users" for slice in SLICES] * len(SEEDS)
    assert all(f"Over seed model {name}" in page.text for name in SEEDS)


def test_intervals_of_few_users_are_marked() -> None:
    few, enough = (render(report(known=known(users=users))) for users in (49, 50))
    assert few.count('class="interval few"') == len(SEEDS) * len(SLICES)
    assert enough.count('class="interval few"') == 0


def test_every_tested_slice_stands_among_the_tests_with_its_figures_and_verdict() -> None:
    page = Page.of(report(verdict(worse=["cold_items"]), parent="r0006"))
    tests = {row[0]: row[2:] for row in page.rows if len(row) == 7 and row[0] != "Slice metric, users"}
    assert set(tests) == {f"{slice} NDCG@20, 300" for slice in SLICES} | {"overall recall@20, 300"}
    interval, theirs = "+0.0271 +0.0171 to +0.0371", "0.0820"
    assert tests["overall NDCG@20, 300"] == [theirs, interval, NONE, "0.0005", "✓ superior"]
    margin = f"{signed(-0.0082)} \N{MINUS SIGN}10 %"
    assert tests["task:view NDCG@20, 300"] == [theirs, interval, margin, "0.0005", "✓ non-inferior"]
    assert tests["cold_items NDCG@20, 300"][-1] == "✗ may be inferior"
    assert tests["repeat NDCG@20, 300"][-1] == "reported only"


def test_each_comparator_has_a_table_of_its_own() -> None:
    page = Page.of(report(verdict(comparators=ALL)))
    names = ["the incumbent", "the personal frequency", "seed model als", "the earlier release r0003"]
    assert [heading for heading in page.headings if heading.startswith("Against")] == [f"Against {x}" for x in names]


def test_one_table_has_every_comparator_on_every_slice() -> None:
    judged = verdict(worse=["cold_items"], tolerated=["task:view"], comparators=(*ALL, "earlier_r0002"))
    findings = [
        one
        for one in judged.findings
        if (one.slice, one.comparator) not in {("task:view", "seed_als"), ("repeat", "earlier_r0002")}
        and (one.comparator != "earlier_r0003" or one.slice == "repeat")
    ]
    page = Page.of(report(msgspec.structs.replace(judged, findings=tuple(findings))))
    header, *rows = [row for row in page.rows if (len(row) == 5 and row[0].endswith("300")) or "seed model als" in row]
    assert header[1:] == ["the incumbent", "the personal frequency", "seed model als", "the best earlier release"]
    cells = {row[0].removesuffix(", 300"): row[1:] for row in rows}
    assert len(cells) == len(SLICES) + 1
    assert cells["overall NDCG@20"] == ["✓ +0.0271"] * 4
    assert cells["cold_items NDCG@20"] == [f"✗ {signed(-0.0333)}"] * 4
    assert cells["task:view NDCG@20"] == [*[f"~ {signed(-0.0333)}"] * 2, NONE, f"~ {signed(-0.0333)}"]
    assert cells["repeat NDCG@20"] == ["+0.0271"] * 4, "reported only"


def test_a_loss_that_is_tolerated_is_told_and_does_not_look_like_a_reason() -> None:
    page = Page.of(report(verdict(tolerated=["cold_items"])))
    assert "✓ Released" in page.text
    assert "On cold_items its NDCG@20 is 0.0333 below" in page.text
    assert "The settings tolerate it." in page.text
    assert not [attrs for name, attrs in page.elements if name == "td" and "fails" in (attrs.get("class") or "")][1:]


def test_what_is_pooled_and_what_else_is_required_is_told() -> None:
    page = Page.of(report(verdict()))
    assert "Tested together, because each has few users: repeat, other_domains." in page.text
    assert "Its slates have 900 items, and the incumbent's 1,200; at least 960: not kept." in page.text
    assert "its purchase head is 0.0120, and the incumbent's 0.0080; at most 0.0280: kept." in page.text
    assert ["shown_items", "900", "1200", "960", "✗ not kept"] in page.rows


def test_a_placement_is_told_by_its_name() -> None:
    lost, kept = (finding("placement:discover", holds=holds) for holds in (False, True))
    judged = msgspec.structs.replace(verdict(), pooled=("repeat", "placement:again"))
    page = Page.of(report(msgspec.structs.replace(judged, findings=(*judged.findings, lost))))
    assert "On placement discover its NDCG@20 is 0.0333 below" in page.text
    assert "Tested together, because each has few users: repeat, placement again." in page.text
    assert [row for row in page.rows if row[0] == "placement discover NDCG@20, 300"]
    page = Page.of(report(msgspec.structs.replace(judged, findings=(*judged.findings, kept))))
    assert "and in NDCG@20 on all 5 tested slices and placements." in page.text


def test_a_window_of_one_day_is_told() -> None:
    judged = verdict()
    assert "of one day" not in Page.of(report(judged)).text
    of_one_day = tuple(msgspec.structs.replace(one, days=1) for one in judged.findings)
    page = Page.of(report(msgspec.structs.replace(judged, findings=of_one_day)))
    assert "They are of one day, so the intervals are over users alone" in page.text
    assert "intervals over users and days" not in page.text


def test_curves_are_drawn_with_where_they_begin_and_end() -> None:
    page = Page.of(report(curves=CURVES))
    assert page.count("figure") == len(CURVES)
    assert page.count("polyline") == 2 * len(CURVES)
    assert "sharing/loss_log:" in page.text
    assert "step 1 120" in page.text


def test_the_purchase_heads_figures_stand_there_or_why_there_is_none() -> None:
    page = Page.of(report(heads={"purchase": PURCHASE}))
    assert ["Area under the ROC curve", "0.8300"] in page.rows
    assert ["0.2100 best F1 in training", "0.4100", "0.2900", "0.3400", "0.9600"] in page.rows
    absent = Page.of(report(absent={"purchase": "no event is a purchase"}))
    assert "This release has no purchase head: no event is a purchase." in absent.text


def test_time_and_origin_are_told() -> None:
    page = Page.of(report())
    assert ["sharing", "", "4.5", "75 %"] in page.rows
    assert ["Trained seed models and encoder", "1970-01-01 to 1970-03-12"] in page.rows
    assert ["training", "epochs: 8 learning_rate: 0.004"] in page.rows
    assert ["order.onnx", "1.2e-07"] in page.rows


def test_a_search_for_strategies_is_told_with_its_trials() -> None:
    made = report(known=known())
    search = {"choice": {"ahead": 1.0}, "trials": [{"ahead": 1.0, "ndcg_at_20": 0.11}, {"ahead": 8.0}]}
    strategy = made.candidate.strategy | {"search": search}
    page = Page.of(replace(made, candidate=replace(made.candidate, strategy=strategy)))
    assert ["search", "choice ahead: 1 trials ahead: 1, ndcg_at_20: 0.11 ahead: 8"] in page.rows
    assert "The hyperparameter search was scored on the same window" in page.text


def test_a_page_fetches_nothing_and_runs_nothing() -> None:
    page = Page.of(report(verdict(comparators=ALL), **EVERYTHING))
    assert {name for name, _ in page.elements} & {"script", "link", "img", "iframe", "object", "form"} == set()
    attributes = {name for _, attrs in page.elements for name in attrs}
    assert attributes & {"src", "href", "srcset", "action", "style"} == set()
    assert not [name for name in attributes if name.startswith("on")]


def test_every_table_has_a_caption_and_every_header_a_scope() -> None:
    page = Page.of(report(verdict(comparators=ALL), **EVERYTHING))
    assert page.count("table") == page.count("caption") > 10
    assert all(attrs.get("scope") in ("col", "row") for name, attrs in page.elements if name == "th")
    assert not [row for row in page.rows if row[0] == ""], "every row has a name"
    drawings = [attrs for name, attrs in page.elements if name == "svg"]
    assert all("aria-label" in attrs or attrs.get("aria-hidden") == "true" for attrs in drawings)


def test_writing_a_report_again_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "r0007.html"
    write(report(verdict()), path)
    write(report(verdict(worse=["cold_items"])), path)
    assert "✗ Rejected" in path.read_text("utf-8")
    assert [each.name for each in path.parent.iterdir()] == ["r0007.html"]


@pytest.mark.parametrize(
    ("users", "low", "sentence", "cell"),
    [
        (99, -0.05, "because 99 users had an event at an explored place, and 100 are needed", "reported only"),
        (100, -0.05, ": significantly below.", "✗ significantly below"),
        (100, 0.01, ": not significantly below.", "✓ not significantly below"),
    ],
)
def test_a_report_has_the_estimate_from_explored_places(users: int, low: float, sentence: str, cell: str) -> None:
    estimate = ExposureEstimate(
        events=5_000,
        explored_events=321,
        explored_users=users,
        effective_events=1234.4,
        candidate=0.2,
        incumbent=0.25,
        improvement=Interval(difference=low + 0.01, low=low, high=low + 0.02),
    )
    judged = msgspec.structs.replace(verdict(comparators=ALL), exposure=estimate)
    page = Page.of(report(judged, **EVERYTHING))
    assert "Estimated from explored places" in page.headings
    for text in (sentence, cell, "5,000", "321", "1,234", "0.2500"):
        assert text in page.text
    assert "explored" not in Page.of(report(verdict(comparators=ALL), **EVERYTHING)).text
