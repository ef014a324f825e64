"""The figures of an offline evaluation as tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from models.report.prequential_table import format_leads, prequential_table

COLUMNS = (("recall", 10), ("ndcg", 10), ("recall", 20), ("mrr", 20))


def show(found: Mapping[str, Any]) -> None:
    """Print what the protocol found."""
    console = Console()
    if "prequential" in found:
        console.print(prequential_table(found["prequential"]))
        for line in format_leads(found["prequential"]):
            console.print(line, highlight=False)
        return
    if "ways" in found:
        console.print(_ways(found["ways"]))
        return
    console.print(_qualities(found))
    if "cost" in found:
        cost = found["cost"]
        told = (
            f"{cost['seconds']:.0f} s, {cost['cpu_seconds']:.0f} s of CPU, {cost['peak_bytes'] / 2**30:.1f} GiB at most"
        )
        console.print(f"made in {told}", highlight=False)


def _table(title: str, first: str) -> Table:
    return Table(first, "events", *(f"{name}@{k}" for name, k in COLUMNS), title=title, title_justify="left")


def _row(name: str, quality: Mapping[str, Any]) -> list[str]:
    return [name, f"{quality['events']:,}", *(f"{quality[metric][k]:.4f}" for metric, k in COLUMNS)]


def _qualities(found: Mapping[str, Any]) -> Table:
    table = _table(f"{found['release']}, {found['protocol']}: full ranking by the served path", "Ranker")
    table.add_row(*_row("served", found["all"]))
    for name, quality in found["slices"].items():
        table.add_row(*_row(f"served, {name}", quality))
    for name, seed in found["seeds"].items():
        table.add_row(*_row(f"seed {name}", seed["all"]))
    return table


def _ways(ways: Mapping[str, Any]) -> Table:
    table = Table("Way", "periods", "recall@20", "mrr@20", "CPU s a period", title="Weekly", title_justify="left")
    for name, way in ways.items():
        recall, mrr = (
            sum(period["all"][metric][20] for period in way["periods"]) / len(way["periods"])
            for metric in ("recall", "mrr")
        )
        cpu = sum(cost["cpu_seconds"] for cost in way["cost"]) / len(way["cost"])
        table.add_row(name, str(len(way["periods"])), f"{recall:.4f}", f"{mrr:.4f}", f"{cpu:.0f}")
    return table
