"""The figures of one offline evaluation, and their tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from anabranch.cli.demo.report import leads, standings_table
from anabranch.cli.demo.summary import standings
from anabranch.ranking.core import NO_SLATE
from models.evaluation import metrics
from models.evaluation.prequential import Prequential
from models.evaluation.protocols import Shown

K = 20


def figures(release_id: str, shown: Shown, prequential: Prequential, items: int) -> dict[str, Any]:
    """Everything measured, as JSON values; `items` is the size of the catalogue, for the coverage."""
    ranks = shown.rank[shown.rank != NO_SLATE]
    return {
        "release": release_id,
        "events": len(ranks),
        "metrics": {
            "accuracy": metrics.accuracy(ranks),
            "precision_at_20": metrics.precision_at(ranks, K),
            "recall_at_20": metrics.recall_at(ranks, K),
            "f1_at_20": metrics.f1_at(ranks, K),
            "ndcg_at_20": metrics.ndcg_at(ranks, K),
            "mrr_at_20": metrics.mrr_at(ranks, K),
            "hit_rate_at_20": metrics.hit_rate_at(ranks, K),
            "coverage_at_20": metrics.coverage_at(shown.slate, items, K),
        },
        "prequential": standings(prequential),
    }


def show_figures(found: dict[str, Any]) -> None:
    """Print them."""
    console = Console()
    table = Table("Metric", "", title=f"Release {found['release']}, {found['events']:,} events", title_justify="left")
    for name, value in found["metrics"].items():
        table.add_row(name, f"{value:.4f}")
    console.print(table)
    console.print(standings_table(found["prequential"]))
    for line in leads(found["prequential"]):
        console.print(line, highlight=False)
