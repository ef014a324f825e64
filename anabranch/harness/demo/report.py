"""The summary as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from anabranch.harness.demo.summary import Summary

NAMES = ("served", "personal_frequency", "co_visit", "popularity")


def show(summary: Summary, console: Console) -> None:
    """Print ledger, speed, releases and the prequential account."""
    console.print(_ledger(summary))
    console.print(_releases(summary))
    console.print(standings_table(summary.prequential))
    for line in leads(summary.prequential):
        console.print(line, highlight=False)


def _ledger(summary: Summary) -> Table:
    ledger, latency = summary.ledger, summary.latency_ms
    table = Table("What happened", "", title="The demo", title_justify="left")
    rows: dict[str, str] = {
        "events published": f"{ledger.events_published:,}",
        "events ranked": f"{ledger.events_ranked:,}",
        "rankings published": f"{ledger.rankings_published:,}",
        "feedback published": f"{ledger.feedback_published:,}",
        "dead letters": f"{ledger.dead_letters:,}",
        "lost, duplicated, out of order": f"{ledger.lost}, {ledger.duplicated}, {ledger.out_of_order}",
        "events a second, at full speed": f"{summary.events_per_second:,.0f}",
        "ms from event to ranking, paced": ", ".join(f"{name} {value:.0f}" for name, value in latency.items()),
        "seconds, all in all": f"{summary.seconds:.0f}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _releases(summary: Summary) -> Table:
    table = Table("Release", "Status", "Gate", title="Releases", title_justify="left")
    for row in summary.releases:
        table.add_row(row["id"], row["status"], escape(row["reason"] or ""))
    return table


def standings_table(prequential: Mapping[str, Any]) -> Table:
    """Recall and NDCG of everyone: overall, by slice and by release."""
    title = "Prequential: the slate each user had, scored by what they did next; all on the same events"
    table = Table("Events", "n", *NAMES, title=title, title_justify="left", caption="recall@20 / NDCG@20")
    table.add_row("all", *_row(prequential))
    for name, standing in prequential["slices"].items():
        table.add_row(name, *_row(standing))
    for name, standing in prequential["releases"].items():
        table.add_row(f"while {name} served", *_row(standing))
    return table


def _row(standing: Mapping[str, Any]) -> list[str]:
    scores = [standing[name] for name in NAMES]
    return [f"{scores[0]['events']:,}", *(f"{one['recall_at_20']:.4f} / {one['ndcg_at_20']:.4f}" for one in scores)]


def leads(prequential: Mapping[str, Any]) -> Iterator[str]:
    """What was served minus each baseline, a line each."""
    for baseline, lead in prequential["lead"].items():
        parts = (
            f"{label} {lead[metric]['difference']:+.4f} [{lead[metric]['low']:+.4f}, {lead[metric]['high']:+.4f}]"
            for label, metric in (("recall@20", "recall_at_20"), ("NDCG@20", "ndcg_at_20"))
        )
        yield f"served - {baseline}: {', '.join(parts)}  (95 % interval, paired by user)"
