"""The table of what each part of the served ranking adds."""

from __future__ import annotations

from collections.abc import Iterator

from anabranch.harness.results.cells import Row, quality_cells
from anabranch.harness.results.paired_ranks import ALL, Metrics, Other, difference, format_interval
from anabranch.harness.results.tables import Measured


def attribution_rows(measured: Measured, name: str, metrics: Metrics) -> Iterator[Row]:
    """The complete ranking, and the same without one part at a time: its figures, and what the part adds."""
    figures = [row for row in measured.figures[name] if row.get("without")]
    if not figures:
        return
    yield "nothing", "", *quality_cells([row[ALL] for row in figures], metrics), "", ""
    complete = measured.ranks(name)
    for part, first in figures[0]["without"].items():
        qualities = [row["without"][part][ALL] for row in figures if part in row["without"]]
        rest = measured.ranks(name, Other("without", part))
        leads: tuple[str, ...] = ("", "")
        if complete is not None and rest is not None:
            leads = tuple(format_interval(difference(complete, rest, gain)) for gain in metrics.gains)
        yield part, first["trained_again"], *quality_cells(qualities, metrics), *leads
