"""The summary as tables on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from anabranch.harness.demo.summary import Summary
from models.report.prequential_table import format_leads, prequential_table


def show(summary: Summary, console: Console) -> None:
    """Print the counts, the speed, the releases and the prequential evaluation."""
    console.print(_run_table(summary))
    console.print(_release_table(summary))
    console.print(prequential_table(summary.prequential))
    for line in format_leads(summary.prequential):
        console.print(line, highlight=False)


def _run_table(summary: Summary) -> Table:
    counts, latency = summary.reconciliation, summary.latency_ms
    table = Table("demo run", "", title="The demo", title_justify="left")
    rows: dict[str, str] = {
        "events published": f"{counts.events_published:,}",
        "events ranked": f"{counts.events_ranked:,}",
        "rankings published": f"{counts.rankings_published:,}",
        "feedback published": f"{counts.feedback_published:,}",
        "dead letters": f"{counts.dead_letters:,}",
        "lost, duplicated, out of order": f"{counts.lost}, {counts.duplicated}, {counts.out_of_order}",
        "events/s at full load": f"{summary.events_per_second:,.0f}",
        "ms from event to ranking at half load": ", ".join(f"{name} {value:.0f}" for name, value in latency.items()),
        "seconds in total": f"{summary.seconds:.0f}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _release_table(summary: Summary) -> Table:
    table = Table("release", "status", "gate", title="Releases", title_justify="left")
    for row in summary.releases:
        table.add_row(row["id"], row["status"], escape(row["reason"] or ""))
    return table
