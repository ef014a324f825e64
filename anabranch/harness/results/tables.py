"""Tables of one release on one test: the served path, its seed models, other models, and what strategies add."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anabranch.harness.results.cells import (
    NOT_MEASURED,
    Figures,
    Row,
    format_spread,
    quality_cells,
    slice_of,
)
from anabranch.harness.results.measurements import AMAZON, ROWS, Measurement, on_rows
from anabranch.harness.results.paired_ranks import (
    ALL,
    OF_HISTORIES,
    OF_SESSIONS,
    Metrics,
    Other,
    SeedRanks,
    difference,
    format_interval,
    read_ranks,
)
from anabranch.harness.results.peers import PeerResults
from anabranch.harness.results.published import PEERS, PublishedFigures
from models.metrics.bootstrap import Interval

SERVED = "**served**"
SLICE_MARGIN = -0.05
"""Of a seed model's figure on a slice: so much worse may sharing be there."""


@dataclass(frozen=True)
class Measured:
    """Everything that was measured."""

    figures: Mapping[str, Sequence[Figures]]
    """Measurement → one entry per random seed that has figures."""
    folder: Path
    """Of figures and ranks."""
    random_seeds: int

    def ranks(self, name: str, other: Other | None = None) -> SeedRanks | None:
        """See `read_ranks`."""
        return read_ranks(self.folder, name, self.random_seeds, other)

    def minus(self, ours: str, theirs: str, metrics: Metrics, slice: str = ALL) -> tuple[str, str]:
        """The differences of two measurements in both metrics; empty if one of them has no ranks."""
        our_ranks, their_ranks = self.ranks(ours), self.ranks(theirs)
        if our_ranks is None or their_ranks is None:
            return "", ""
        first, second = (format_interval(difference(our_ranks, their_ranks, gain, slice)) for gain in metrics.gains)
        return first, second


def session_rows(measured: Measured, name: str, published: Sequence[PublishedFigures]) -> Iterator[Row]:
    """The served path, its cold items and each seed model alone; published figures are in columns of their own."""
    figures = measured.figures[name]
    for title, *cells in _served_rows(figures, OF_SESSIONS):
        yield title, *cells, "", ""
    for paper in published:
        yield paper.source, "", "", *_published_cells(paper)
    for row in seed_model_rows(figures, OF_SESSIONS):
        yield *row, "", ""


def timed_rows(measured: Measured, name: str, metrics: Metrics) -> Iterator[Row]:
    """The served path, its cold items and each seed model alone."""
    yield from _served_rows(measured.figures[name], metrics)
    yield from seed_model_rows(measured.figures[name], metrics)


def prequential_rows(measured: Measured, name: str) -> Iterator[Row]:
    """The served path and the baselines that learn every event, each with what was served minus it."""
    figures = [row["prequential"] for row in measured.figures[name]]
    for ranker in figures[0]["lead"] if figures else ():
        yield ranker, *_prequential_cells(figures, ranker), _lead_cells(figures, ranker)[1]
    yield SERVED, *(_prequential_cells(figures, "served") if figures else (NOT_MEASURED, "")), ""


def placement_rows(measured: Measured, name: str) -> Iterator[Row]:
    """Each placement on the events that it is for, and the slices of the first: the served path, and the baselines with
    what was served minus each."""
    for title, figures in _by_placement([row["prequential"] for row in measured.figures[name]]):
        yield title, SERVED, *_prequential_cells(figures, "served"), "", ""
        for ranker in figures[0]["lead"]:
            yield "", ranker, *_prequential_cells(figures, ranker), *_lead_cells(figures, ranker)


def variety_rows(measured: Measured, name: str) -> Iterator[Row]:
    """How varied the slates of each placement are, and what it hits more or less than the first one."""
    figures = measured.figures[name]
    for placement in figures[0]["variety"] if figures else ():
        of_seeds = [row["variety"][placement] for row in figures]
        forms = {"categories": ".1f", "largest": ".3f", "divergence": ".2f"}
        cells = (format_spread([row[measure] for row in of_seeds], form) for measure, form in forms.items())
        yield (
            placement.replace("_", " "),
            *cells,
            *_interval_cells([row["cost_of_variety"].get(placement) for row in figures]),
        )


def _by_placement(figures: Sequence[Figures]) -> Iterator[tuple[str, Sequence[Figures]]]:
    """Comparisons of the random seeds, by what they are about and how many events that has."""
    if not figures:
        return
    parts = [("first placement, all events", figures)]
    for title, kind in (("first placement", "slices"), ("placement", "placements")):
        parts += [(f"{title} {name}", [row[kind][name] for row in figures]) for name in figures[0][kind]]
    for title, rows in parts:
        yield f"{title.replace('_', ' ')} ({rows[0]['served']['events']:,})", rows


def seed_model_rows(figures: Sequence[Figures], metrics: Metrics) -> Iterator[Row]:
    """Each seed model alone, on the same events."""
    for name in figures[0]["seeds"] if figures else ():
        yield f"seed model {name} alone", *quality_cells([row["seeds"][name][ALL] for row in figures], metrics)


def seed_lead_rows(measured: Measured, name: str, metrics: Metrics) -> Iterator[Row]:
    """The served path minus each seed model in the second metric, by slice, and whether it is good enough.

    It is if the lower end of the interval is above 0 over all events, and on a slice above `SLICE_MARGIN` of the seed
    model's own figure, or 0: where the seed model finds nothing, nothing can be lost.
    """
    served, figures = measured.ranks(name), measured.figures[name]
    for seed_model in figures[0]["seeds"] if served is not None and figures else ():
        alone = measured.ranks(name, Other("seeds", seed_model))
        assert served is not None and alone is not None  # figures and ranks come from one evaluation
        for slice in (ALL, *(slice for slice, mask in served.masks.items() if mask.any())):
            inside, gain = served.in_slice(slice), metrics.gains[1]
            lead, own = difference(served, alone, gain, slice), float(alone.mean_gains(gain)[inside].mean())
            enough = lead.low > 0 if slice == ALL else lead.low >= 0 or lead.low > SLICE_MARGIN * own
            users = len(np.unique(served.user[inside]))
            yield seed_model, slice, f"{users:,}", f"{own:.4f}", format_interval(lead), "yes" if enough else "**no**"


def leave_one_out_rows(measured: Measured, data: str, published: Sequence[PublishedFigures]) -> Iterator[Row]:
    """The served path and other models, by the rows that they learn; published figures are in columns of their own."""
    for rows in ROWS:
        for title, *cells in _served_rows(measured.figures[on_rows(data, rows)], OF_HISTORIES):
            yield title, rows, *cells, *[""] * 4
    by_model = {paper.model: paper for paper in published if paper.model}
    for model, title in PEERS.items():
        for rows in ROWS:
            peers = PeerResults(measured.folder, model, data, rows)
            paper = by_model.get(model) if rows == ROWS[0] else None  # papers learn from the training rows alone
            if paper is not None or peers.figures():
                yield title, rows, *_peer_cells(measured, peers), *_published_cells(paper)
    for paper in published:
        if not paper.model:
            yield paper.source, ROWS[0], *[""] * 4, *_published_cells(paper)


def cost_line(figures: Sequence[Figures]) -> str:
    """The number of events, the cost to train the release, and the day."""
    cpu = format_spread([row["cost"]["cpu_seconds"] for row in figures], ".0f")
    peak = max(row["cost"]["peak_bytes"] for row in figures) / 2**30
    return (
        f"{figures[0]['all']['events']:,} events. Seconds of CPU to make it, on one thread: {cpu}; {peak:.1f} GiB of "
        f"memory at most. Measured on {max(row['date'] for row in figures)}."
    )


def together_rows(measured: Measured, name: str) -> Iterator[Row]:
    """One release for three domains, against the best seed model alone, by slice."""
    figures = measured.figures[name]
    seed_models = figures[0]["seeds"]
    for slice in _slices():
        best = max(seed_models, key=lambda seed_model: slice_of(seed_models[seed_model], slice)["ndcg"]["10"])
        served = quality_cells([slice_of(row, slice) for row in figures], OF_HISTORIES)
        best_ndcg = [slice_of(row["seeds"][best], slice)["ndcg"]["10"] for row in figures]
        leads = [Interval(**row["seeds"][best]["lead"][slice]["ndcg_at_10"]) for row in figures]
        yield slice, *served, best, format_spread(best_ndcg), "; ".join(map(format_interval, leads))


def jointly_rows(measured: Measured, name: str, jointly: str) -> Iterator[Row]:
    """The same release, against one trained on all domains with no strategy that shares, by slice."""
    figures = measured.figures[jointly]
    for slice in _slices() if figures else ():
        _, ndcg = quality_cells([slice_of(row, slice) for row in figures], OF_HISTORIES)
        recall_lead, ndcg_lead = measured.minus(name, jointly, OF_HISTORIES, slice)
        yield slice, ndcg, ndcg_lead, recall_lead


def strategy_rows(
    measured: Measured, measurements: Sequence[Measurement], base: str, metrics: Metrics
) -> Iterator[Row]:
    """The preset's strategies and others on the same data, by slice, with their difference from the preset's in the
    second metric."""
    for measurement in measurements:
        figures = measured.figures[measurement.name]
        if not figures or base not in (measurement.name, measurement.base):
            continue
        for slice in (ALL, "cold_items", "new_items"):
            qualities = [slice_of(row, slice) for row in figures if slice == ALL or slice in row["slices"]]
            if qualities:
                minus = measured.minus(measurement.name, base, metrics, slice)[1] if measurement.base else ""
                yield figures[0]["strategy"]["name"], slice, *quality_cells(qualities, metrics), minus


def _served_rows(figures: Sequence[Figures], metrics: Metrics) -> Iterator[Row]:
    yield SERVED, *quality_cells([row[ALL] for row in figures], metrics)
    cold = [row["slices"]["cold_items"] for row in figures if "cold_items" in row["slices"]]
    if cold:
        yield "served, cold items", *quality_cells(cold, metrics)


def _peer_cells(measured: Measured, peers: PeerResults) -> tuple[str, str, str, str]:
    """Recall@10, NDCG@10, and the served path minus it in both on the same rows."""
    recall, ndcg = quality_cells(peers.figures(), OF_HISTORIES)
    ours, theirs = measured.ranks(on_rows(peers.data, peers.rows)), peers.ranks()
    if ours is None or theirs is None:
        return recall, ndcg, "", ""
    first, second = (format_interval(difference(ours, theirs, gain)) for gain in OF_HISTORIES.gains)
    return recall, ndcg, first, second


def _prequential_cells(figures: Sequence[Figures], ranker: str) -> tuple[str, str]:
    recall, ndcg = ([row[ranker][metric] for row in figures] for metric in ("recall_at_20", "ndcg_at_20"))
    return format_spread(recall), format_spread(ndcg)


def _lead_cells(figures: Sequence[Figures], ranker: str) -> tuple[str, str]:
    """What was served minus the ranker in both metrics, an interval per random seed."""
    return _interval_cells([row["lead"][ranker] for row in figures])


def _interval_cells(differences: Sequence[Figures | None]) -> tuple[str, str]:
    """Differences in both metrics, an interval per random seed; None: it has none."""
    recall, ndcg = (
        "; ".join(format_interval(Interval(**row[metric])) for row in differences if row is not None)
        for metric in ("recall_at_20", "ndcg_at_20")
    )
    return recall, ndcg


def _published_cells(paper: PublishedFigures | None) -> tuple[str, str]:
    if paper is None:
        return "", ""
    first, second = paper.figures
    return f"{first:.4f}", f"{second:.4f}"


def _slices() -> list[str]:
    return [ALL, *(f"domain:{name}" for name in AMAZON), "cold_items"]
