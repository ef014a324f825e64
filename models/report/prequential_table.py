"""A prequential evaluation as JSON values, and as a table on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import to_builtins
from rich.table import Table

from models.evaluation.prequential import Comparison, Prequential

RANKER_NAMES = ("served", "personal_frequency", "co_visit", "session_knn", "user_knn", "popularity")


def prequential_as_json(prequential: Prequential) -> dict[str, Any]:
    """Each ranker's scores by its name, the leads, and the same again under `releases`, `slices` and `placements`."""
    return _comparison_as_json(prequential.overall) | {
        "releases": {name: _comparison_as_json(comparison) for name, comparison in prequential.releases.items()},
        "slices": {name: _comparison_as_json(comparison) for name, comparison in prequential.slices.items()},
        "placements": {name: _comparison_as_json(comparison) for name, comparison in prequential.placements.items()},
    }


def prequential_table(prequential: Mapping[str, Any]) -> Table:
    """Recall@20 and NDCG@20 of each ranker: over all events, by slice, by further placement and by release."""
    title = "Prequential evaluation: each slate scored by the user's next event; all rankers on the same events"
    table = Table(title=title, title_justify="left", caption="recall@20 / NDCG@20")
    for name in ("Events", "n", *RANKER_NAMES):
        table.add_column(_words(name))
    table.add_row("all", *_row(prequential))
    for name, comparison in prequential["slices"].items():
        table.add_row(_words(name), *_row(comparison))
    for name, comparison in prequential["placements"].items():
        table.add_row(f"placement {_words(name)}", *_row(comparison))
    for name, comparison in prequential["releases"].items():
        table.add_row(f"while {name} served", *_row(comparison))
    return table


def _words(name: str) -> str:
    """A name that a narrow terminal can break, instead of cutting its end off."""
    return name.replace("_", " ")


def format_leads(prequential: Mapping[str, Any]) -> Iterator[str]:
    """Served minus each baseline, one line each."""
    for baseline, lead in prequential["lead"].items():
        parts = (
            f"{label} {format_interval(lead[metric])}"
            for label, metric in (("recall@20", "recall_at_20"), ("NDCG@20", "ndcg_at_20"))
        )
        yield f"served - {baseline}: {', '.join(parts)}  (95 % interval, paired by user)"


def format_interval(interval: Mapping[str, float]) -> str:
    """A difference with its interval."""
    return f"{interval['difference']:+.4f} [{interval['low']:+.4f}, {interval['high']:+.4f}]"


def _comparison_as_json(comparison: Comparison) -> dict[str, Any]:
    return {**to_builtins(comparison.scores), "lead": to_builtins(comparison.improvement)}


def _row(comparison: Mapping[str, Any]) -> list[str]:
    scores = [comparison[name] for name in RANKER_NAMES]
    return [
        f"{scores[0]['events']:,}",
        *(f"{score['recall_at_20']:.4f} / {score['ndcg_at_20']:.4f}" for score in scores),
    ]
