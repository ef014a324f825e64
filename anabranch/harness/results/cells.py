"""Cells of the tables: a metric as the mean over random seeds, with their spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from anabranch.harness.results.paired_ranks import ALL, Metrics

Figures = dict[str, Any]
"""What `anabranch evaluate --json` wrote."""
Row = Sequence[str]
NOT_MEASURED = "not measured"


def format_spread(values: Sequence[float], form: str = ".4f") -> str:
    """Mean and sample standard deviation over the random seeds."""
    spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else " (one seed)"
    return f"{statistics.mean(values):{form}}{spread}"


def quality_cells(qualities: Sequence[Figures], metrics: Metrics) -> tuple[str, str]:
    """The two metrics of one ranker, one entry per random seed."""
    if not qualities:
        return NOT_MEASURED, ""
    first, second = ([quality[metric][str(metrics.k)] for quality in qualities] for metric in metrics.names)
    return format_spread(first), format_spread(second)


def slice_of(figures: Figures, name: str) -> Figures:
    """The metrics of a slice."""
    quality: Figures = figures[ALL] if name == ALL else figures["slices"][name]
    return quality
