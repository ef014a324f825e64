"""The summary as tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from anabranch.harness.demo.summary import Summary
from models.evaluation.prequential import SERVED
from models.report.prequential_table import RANKER_NAMES, format_leads, prequential_table


def show(summary: Summary, console: Console) -> None:
    """Print the counts, the speed, what each stage took, the releases, and how good the rankings were."""
    console.print(_run_table(summary))
    console.print(_stage_table(summary))
    console.print(_release_table(summary))
    console.print(prequential_table(summary.prequential | {"releases": {}}))
    for line in format_leads(summary.prequential):
        console.print(line, highlight=False)
    for name, comparison in summary.prequential["placements"].items():
        for line in format_leads(comparison):
            console.print(f"placement {name}: {line}", highlight=False, soft_wrap=True)
    console.print(_served_table(summary.prequential["releases"]))
    for name, comparison in summary.prequential["releases"].items():
        for line in format_leads(comparison):
            console.print(f"{name}: {line}", highlight=False, soft_wrap=True)


def _run_table(summary: Summary) -> Table:
    counts, latency, over_http = summary.reconciliation, summary.latency_ms, summary.click_to_slate_ms
    table = Table("demo run", "", title=escape(summary.data), title_justify="left")
    rows: dict[str, str] = {
        "events published": f"{counts.events_published:,}, of which {summary.clicks} are the visitor's",
        "events ranked": f"{counts.events_ranked:,}",
        "rankings published": f"{counts.rankings_published:,}",
        "feedback published": f"{counts.feedback_published:,}",
        "dead letters": f"{counts.dead_letters:,}",
        "lost, duplicated, out of order": f"{counts.lost}, {counts.duplicated}, {counts.out_of_order}",
        "events/s at full load": f"{summary.events_per_second:,.0f}",
        "ms from event to ranking at half load": ", ".join(f"{name} {value:.0f}" for name, value in latency.items()),
        "ms from a visitor's click to the next slate, over HTTP": ", ".join(
            f"{name} {value:.0f}" for name, value in over_http.items()
        ),
        "seconds in total": f"{summary.seconds:.0f}",
        "CPU seconds in total": f"{sum(cost.cpu_seconds for cost in summary.stages):.0f}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _stage_table(summary: Summary) -> Table:
    title = "What each stage took; CPU of all processes of the demo"
    table = Table("stage", "seconds", "CPU seconds", title=title, title_justify="left")
    for cost in summary.stages:
        table.add_row(escape(cost.stage), f"{cost.seconds:.1f}", f"{cost.cpu_seconds:.1f}")
    return table


def _release_table(summary: Summary) -> Table:
    table = Table("release", "status", "reason", title="Releases", title_justify="left")
    for row in summary.releases:
        table.add_row(row["id"], row["status"], escape(row["reason"] or ""))
    return table


def _served_table(releases: Mapping[str, Any]) -> Table:
    """Each release on the events that it served, next to the baselines on the same events."""
    title = "Served by each release: NDCG@20 of its slates, and of the baselines on the same events"
    table = Table("release", "events", *RANKER_NAMES, title=title, title_justify="left")
    for name, comparison in releases.items():
        scores = (f"{comparison[ranker]['ndcg_at_20']:.4f}" for ranker in RANKER_NAMES)
        table.add_row(name, f"{comparison[SERVED]['events']:,}", *scores)
    return table
