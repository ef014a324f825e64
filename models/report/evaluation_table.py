"""The results of an offline evaluation as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from anabranch.console import output_console
from models.report.prequential_table import format_interval, format_leads, prequential_table

COLUMNS = (("recall", 10), ("ndcg", 10), ("recall", 20), ("mrr", 20))


def show(results: Mapping[str, Any]) -> None:
    """Print the results of any protocol."""
    console = output_console()
    if "prequential" in results:
        console.print(prequential_table(results["prequential"]))
        for line in format_leads(results["prequential"]):
            console.print(line, highlight=False)
        return
    if "ways" in results:
        console.print(_ways(results["ways"]))
        return
    console.print(_qualities(results))
    console.print(_candidates(results["candidates"]))
    if results["variety"]:
        console.print(_variety(results["variety"], results["cost_of_variety"]))
    if "cost" in results:
        cost = results["cost"]
        memory = f"{cost['peak_bytes'] / 2**30:.1f} GiB at most"
        console.print(
            f"trained in {cost['seconds']:.0f} s, {cost['cpu_seconds']:.0f} s of CPU, {memory}", highlight=False
        )


def _table(title: str, first: str) -> Table:
    return Table(first, "events", *(f"{name}@{k}" for name, k in COLUMNS), title=title, title_justify="left")


def _row(name: str, quality: Mapping[str, Any]) -> list[str]:
    return [name, f"{quality['events']:,}", *(f"{quality[metric][k]:.4f}" for metric, k in COLUMNS)]


def _qualities(results: Mapping[str, Any]) -> Table:
    table = _table(f"{results['release']}, {results['protocol']}: full ranking by the served path", "Ranker")
    table.add_row(*_row("served", results["all"]))
    for name, quality in results["slices"].items():
        table.add_row(*_row(f"served, {name}", quality))
    for name, quality in results["placements"].items():
        table.add_row(*_row(f"placement {name}", quality))
    for name, seed in results["seeds"].items():
        table.add_row(*_row(f"seed model {name}", seed["all"]))
    for name, rest in results["without"].items():
        table.add_row(*_row(f"without {name}", rest["all"]))
    return table


def _candidates(by_slice: Mapping[str, Any]) -> Table:
    """What each source brings: a share is of the events, and bounds the recall."""
    sources = list(by_slice["all"]["sources"])
    title = "Next items among the candidates, by what proposes them (in brackets: and nothing else does)"
    table = Table("Events", "number", "candidates", "share", *sources, title=title, title_justify="left")
    for name, coverage in by_slice.items():
        shares = [f"{source['share']:.3f} ({source['alone']:.3f})" for source in coverage["sources"].values()]
        counts = f"{coverage['events']:,}", f"{coverage['candidates']:.0f}", f"{coverage['share']:.3f}"
        table.add_row(name, *counts, *shares)
    return table


def _variety(by_placement: Mapping[str, Any], cost: Mapping[str, Any]) -> Table:
    """How varied the slates of each placement are, and what that costs against the first."""
    first = next(iter(by_placement))
    measured = "categories", "largest share", "divergence from the user's", f"recall@20 minus {first}", "ndcg@20"
    table = Table("Placement", *measured, title="Categories of slates", title_justify="left")
    for name, variety in by_placement.items():
        leads = (
            [format_interval(cost[name][metric]) for metric in ("recall_at_20", "ndcg_at_20")] if name in cost else []
        )
        table.add_row(
            name, f"{variety['categories']:.1f}", f"{variety['largest']:.3f}", f"{variety['divergence']:.2f}", *leads
        )
    return table


def _ways(ways: Mapping[str, Any]) -> Table:
    table = Table("Way", "periods", "recall@20", "mrr@20", "CPU s per period", title="Weekly", title_justify="left")
    for name, way in ways.items():
        recall, mrr = (
            sum(period["all"][metric][20] for period in way["periods"]) / len(way["periods"])
            for metric in ("recall", "mrr")
        )
        cpu = sum(cost["cpu_seconds"] for cost in way["cost"]) / len(way["cost"])
        table.add_row(name, str(len(way["periods"])), f"{recall:.4f}", f"{mrr:.4f}", f"{cpu:.0f}")
        for age, lead in _leads_over_stale(way["periods"]):
            table.add_row(f"{name} - {age} weeks old", *lead, "")
    return table


def _leads_over_stale(periods: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """For each age of a stale release: the periods that have one, and the mean lead over it in both metrics."""
    for age in dict.fromkeys(age for period in periods for age in period["stale"]):
        with_age = [period for period in periods if age in period["stale"]]
        leads = (
            sum(period["all"][metric][20] - period["stale"][age]["all"][metric][20] for period in with_age)
            for metric in ("recall", "mrr")
        )
        yield age, [str(len(with_age)), *(f"{lead / len(with_age):+.4f}" for lead in leads)]
