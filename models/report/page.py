"""The report as a page: one file with nothing to fetch and no script."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from models.evaluation.seed_comparison import SeedComparison
from models.evaluation.summaries import ImprovementByCutoff
from models.pipeline.release_gate import METRIC_NAMES, PRIMARY, Finding
from models.report import words
from models.report.charts import LineChart, Scale
from models.report.report import Report


def write(report: Report, path: Path) -> None:
    """Write the page, replacing one of an earlier run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(report), "utf-8")


def render(report: Report) -> str:
    """The page; whatever text it tells of is escaped."""
    return _environment().get_template("report.html").render(report=report)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("models.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": lambda value: f"{value:.4f}",
        "signed": words.signed,
        "count": lambda value: f"{value:,}",
        "p_value": lambda value: f"{value:.2g}",
        "day": words.day,
        "moment": lambda ts: f"{datetime.fromtimestamp(ts / 1000, UTC):%Y-%m-%d %H:%M} UTC",
    }
    environment.globals |= {
        "headline": words.headline,
        "sentences": words.sentences,
        "metric_names": METRIC_NAMES,
        "baseline_name": words.baseline_name,
        "Scale": Scale,
        "LineChart": LineChart,
        "best_first": _best_first,
        "leads_scale": _leads_scale,
        "by_baseline": by_baseline,
        "findings_scale": _findings_scale,
    }
    return environment


def _best_first(known: SeedComparison) -> list[str]:
    """The seeds' names, the one with the greatest NDCG@20 first."""
    return sorted(known.seeds, key=lambda name: -known.seeds[name].quality.ndcg[20])


def _leads_scale(known: SeedComparison, few: int) -> Scale:
    """One scale for the leads over all seeds, made for the slices of `few` users or more: the others may leave it."""
    shown = [name for name, users in known.users.items() if users >= few] or list(known.users)
    leads: list[ImprovementByCutoff] = [seed.improvement[name] for seed in known.seeds.values() for name in shown]
    return Scale.of_intervals(one.ndcg_at_20 for one in leads)


def by_baseline(findings: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    """Each rival with what was asked of the difference to it, and the NDCG@20 of every slice besides."""
    shown = [one for one in findings if one.hypothesis is not None or one.metric == PRIMARY]
    ordered = sorted(shown, key=lambda one: one.baseline)
    return [(baseline, list(group)) for baseline, group in groupby(ordered, key=lambda one: one.baseline)]


def _findings_scale(findings: Sequence[Finding]) -> Scale:
    """Made for what has users enough for a test: the others may leave it."""
    return Scale.of_intervals([one for one in findings if one.p is not None] or findings)
