"""Reports to render, and what a reader finds on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html.parser import HTMLParser

import numpy as np

from anabranch.co_visit_rule import CoVisitRule
from anabranch.release import DataWindow, Manifest, ReleasePolicy
from models.evaluation.seed_comparison import SeedComparison, SeedScore
from models.evaluation.summaries import ImprovementByCutoff, Quality
from models.gate.findings import Finding
from models.gate.release_gate import Verdict
from models.gate.requirements import CALIBRATION, COVERAGE, Requirement
from models.metrics.bootstrap import Interval
from models.offline.candidate_coverage import CandidateCoverage, SourceCoverage
from models.pipeline.release_candidate import ReleaseCandidate
from models.report.page import render
from models.report.report import Report
from models.training_curves import Points

DAY_MS = 24 * 3600 * 1000
SEEDS = ("co_visit", "als", "text", "sequence")
SLICES = ("overall", "task:view", "domain:<script>alert('garden')</script>", "cold_items", "small_slices", "repeat")
POOLED = ("repeat", "other_domains")
"""Slices of few users; `repeat` is reported too."""
CURVES: dict[str, Points] = {
    "sharing/loss_log": [(step, 9 - step / 100) for step in range(1, 121)],
    "order/loss": [(1, 4.0)],
}
PURCHASE = {
    "horizon_days": 7.0,
    "examples": 1000,
    "purchases": 30,
    "roc_auc": 0.83,
    "pr_auc": 0.28,
    "log_loss": 0.11,
    "brier": 0.026,
    "calibration_error": 0.006,
    "adaptive_calibration_error": 0.007,
    "at_half": {"threshold": 0.5, "accuracy": 0.97, "precision": 0.58, "recall": 0.07, "f1": 0.13},
    "at_best_f1": {"threshold": 0.21, "accuracy": 0.96, "precision": 0.41, "recall": 0.29, "f1": 0.34},
    "reliability": [
        {"examples": 500, "predicted": 0.01, "observed": 0.008},
        {"examples": 500, "predicted": 0.05, "observed": 0.052},
    ],
}


def known(slices: Sequence[str] = SLICES, users: int = 300) -> SeedComparison:
    """The shared ranking is ahead of every seed, and of the first of them least."""
    qualities = [Quality.from_ranks(np.full(10, place, np.int32)) for place in (1, 2, 3, 4, 5)]
    lead = Interval(difference=0.0123, low=-0.0045, high=0.0291)
    leads = ImprovementByCutoff(recall_at_10=lead, recall_at_20=lead, ndcg_at_10=lead, ndcg_at_20=lead)
    return SeedComparison(
        shared=qualities[0],
        seeds={
            name: SeedScore(quality=quality, improvement=dict.fromkeys(slices, leads))
            for name, quality in zip(SEEDS, qualities[1:], strict=True)
        },
        events=dict.fromkeys(slices, 1234),
        users=dict.fromkeys(slices, users),
    )


def finding(
    slice: str, metric: str = "ndcg_at_20", comparator: str = "incumbent", holds: bool = True, tolerated: bool = False
) -> Finding:
    hypothesis = None if slice in POOLED else "non_inferior"
    if (slice, metric, comparator) == ("overall", "ndcg_at_20", "incumbent"):
        hypothesis = "superior"
    difference = 0.0271 if holds else -0.0333
    return Finding(
        slice=slice,
        metric=metric,
        comparator=comparator,
        hypothesis=hypothesis,
        users=300,
        days=7,
        theirs=0.082,
        difference=difference,
        low=difference - 0.01,
        high=difference + 0.01,
        margin=0.0 if hypothesis == "superior" else -0.0082,
        p=None if hypothesis is None else 0.0005 if holds else 0.97,
        holds=holds,
        tolerated=tolerated,
    )


REQUIRED = (
    Requirement(name=COVERAGE, candidate=900, incumbent=1200, limit=960, holds=False),
    Requirement(name=CALIBRATION, candidate=0.012, incumbent=0.008, limit=0.028, holds=True),
)


def verdict(
    worse: Sequence[str] = (), comparators: Sequence[str] = ("incumbent",), tolerated: Sequence[str] = ()
) -> Verdict:
    """Of all slices, those in `worse` fail, and those in `tolerated` too."""
    findings = [
        finding(slice, metric, comparator, slice not in (*worse, *tolerated), slice in tolerated)
        for slice in SLICES
        for comparator in comparators
        for metric in (("ndcg_at_20", "recall_at_20") if slice == "overall" else ("ndcg_at_20",))
    ]
    reason = f"what fails is {' & '.join(worse)}" if worse else "NDCG@20 is above the incumbent's: it <b>is</b>"
    numbers = {"events": 8000.0, "users": 400.0, "ndcg_at_20_candidate": 0.1234}
    return Verdict(not worse, reason, numbers, tuple(findings), requirements=REQUIRED, pooled=POOLED)


def report(
    verdict: Verdict | None = None,
    known: SeedComparison | None = None,
    curves: Mapping[str, Points] | None = None,
    heads: Mapping[str, dict[str, object]] | None = None,
    absent: Mapping[str, str] | None = None,
    parent: str | None = None,
) -> Report:
    window = DataWindow(train_from=0, order_from=70 * DAY_MS, gate_from=84 * DAY_MS, gate_to=91 * DAY_MS, events=45_678)
    strategy = {"name": "text_geometry", "training": {"epochs": 8, "learning_rate": 0.004}, "text_geometry": {"a": 1}}
    candidate = ReleaseCandidate(
        dims=64,
        state_dims=128,
        text_dims=384,
        features=("inner_product",),
        seeds=SEEDS,
        strategy=strategy,
        parity={"order.onnx": 1.2e-7},
        measured={"loss_log": 8.7, "order_lists": 2079.0},
        policy=ReleasePolicy(),
        co_visits=CoVisitRule(),
        heads=dict(heads or {}),
        absent=dict(absent or {}),
        seconds={"seed als": 1.5, "sharing": 4.5},
        curves=dict(curves or {}),
        candidates=CandidateCoverage(
            events=2400,
            candidates=112.4,
            share=0.866,
            sources={"co_visits": SourceCoverage(share=0.512, alone=0.101)},
        ),
        seed_comparison=known,
    )
    manifest = Manifest(
        id="r0007",
        parent=parent,
        created=91 * DAY_MS,
        dims=64,
        state_dims=128,
        text_dims=384,
        features=["inner_product"],
        seeds=list(SEEDS),
        strategy=strategy,
        window=window,
        parity=candidate.parity,
        gate={},
        files={},
    )
    return Report(manifest, candidate, verdict)


class Page(HTMLParser):
    """What is on a page: its elements, its words, and the cells of its tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.headings: list[str] = []
        self._words: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    @classmethod
    def of(cls, report: Report) -> Page:
        return cls(render(report))

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._words).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "circle", "rect", "polyline"):
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if "style" in self._open or "title" in self._open:
            return
        self._words.append(data)
        if self._open and self._open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data.strip())
        if "td" in self._open or "th" in self._open:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())
