"""The report as an HTML page: one file without scripts or external resources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from anabranch.durable_files import create_folder, write_durably
from models.evaluation.off_policy import MIN_EXPLORED_USERS
from models.evaluation.paired_differences import EARLIER
from models.evaluation.seed_comparison import SeedComparison
from models.gate.findings import METRIC_NAMES, Finding, comparator_name, slice_name
from models.report import words
from models.report.charts import LineChart, Scale
from models.report.report import Report


def write(report: Report, path: Path) -> None:
    """Write the page; an existing file is replaced as a whole."""
    create_folder(path.parent)
    write_durably(path, render(report).encode())


def render(report: Report) -> str:
    """The page as HTML; all text from the data is escaped."""
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
        "minute": lambda ts: f"{datetime.fromtimestamp(ts / 1000, UTC):%Y-%m-%d %H:%M} UTC",
    }
    environment.globals |= {
        "headline": words.headline,
        "sentences": words.sentences,
        "metric_names": METRIC_NAMES,
        "comparator_name": comparator_name,
        "slice_name": slice_name,
        "outcome": words.outcome,
        "overview": _overview,
        "Scale": Scale,
        "LineChart": LineChart,
        "best_first": _best_first,
        "improvement_scale": _improvement_scale,
        "by_comparator": _by_comparator,
        "findings_scale": _findings_scale,
        "min_explored_users": MIN_EXPLORED_USERS,
    }
    return environment


def _best_first(comparison: SeedComparison) -> list[str]:
    """Names of the seed models by NDCG@20, best first."""
    return sorted(comparison.seeds, key=lambda name: -comparison.seeds[name].quality.ndcg[20])


def _improvement_scale(comparison: SeedComparison, min_users: int) -> Scale:
    """One scale for the improvements over all seed models.

    It fits the slices with at least `min_users` users; intervals of smaller slices may extend beyond it.
    """
    slices = [name for name, users in comparison.users.items() if users >= min_users] or list(comparison.users)
    improvements = [seed.improvement[name] for seed in comparison.seeds.values() for name in slices]
    return Scale.around_intervals(improvement.ndcg_at_20 for improvement in improvements)


def _by_comparator(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Each comparator with its differences, in the order in which the gate has them."""
    by_comparator: dict[str, list[Finding]] = {}
    for finding in findings:
        by_comparator.setdefault(finding.comparator, []).append(finding)
    return by_comparator


@dataclass(frozen=True)
class Overview:
    """Every finding in one table: a row for each metric of a slice, a column for each comparator."""

    columns: list[str]
    rows: list[list[Finding | None]]
    """None: the comparator was not compared there, because it has nothing there."""


def _overview(findings: Sequence[Finding]) -> Overview:
    """The earlier releases are one column: each slice has the one that is best there."""
    columns, rows = dict[str, None](), dict[tuple[str, str], dict[str, Finding]]()
    for finding in findings:
        name = finding.comparator
        column = "the best earlier release" if name.startswith(EARLIER) else comparator_name(name)
        columns[column] = None
        rows.setdefault((finding.slice, finding.metric), {})[column] = finding
    return Overview(list(columns), [[row.get(column) for column in columns] for row in rows.values()])


def _findings_scale(findings: Sequence[Finding]) -> Scale:
    """A scale that fits the slices with enough users for a test; other intervals may extend beyond it."""
    return Scale.around_intervals([finding for finding in findings if finding.p is not None] or findings)
