"""`python -m tests.benchmarks.peers.sequential`: published sequential recommenders on the rows of our benchmarks."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from anabranch.errors import AnabranchError, UsageError
from tests.benchmarks.peers.sequential.figures import PeerFigures, PeerRun, Rows, read
from tests.benchmarks.peers.sequential.peers import OF_SHORT_HISTORIES, SEQUENTIAL_PEERS
from tests.benchmarks.peers.sequential.rows import LeaveOneOutRows
from tests.benchmarks.peers.sequential.run import measure
from tests.benchmarks.peers.sequential.training import Report

FIGURES = Path("models/results")
"""Where `anabranch results` looks for them, beside its own."""
ALL_ROWS: dict[str, Rows] = {"train": "train", "train+validation": "train+validation"}


def main(
    data: Annotated[list[Path], typer.Option(help="A leave-one-out data folder; may be repeated.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(SEQUENTIAL_PEERS)}; may be repeated. Default: all of short histories."),
    ] = None,
    rows: Annotated[list[str] | None, typer.Option(help=f"{' or '.join(ALL_ROWS)}; may be repeated.")] = None,
    random_seed: Annotated[list[int] | None, typer.Option(help="Of training; may be repeated.")] = None,
    out: Annotated[Path, typer.Option(help="The folder of the figures.", file_okay=False)] = FIGURES,
) -> None:
    """Train published recommenders and rank the test. A run whose figures are there is not made again.

    Example: python -m tests.benchmarks.peers.sequential --data DIR/video --model lrurec
    """
    models = _known("--model", model or list(OF_SHORT_HISTORIES), list(SEQUENTIAL_PEERS))
    kinds = [ALL_ROWS[name] for name in _known("--rows", rows or ["train"], list(ALL_ROWS))]
    out.mkdir(parents=True, exist_ok=True)
    for seed, folder in product(random_seed or [0], data):
        read_rows = LeaveOneOutRows.read(folder)
        for name, kind in product(models, kinds):
            run = PeerRun(name, read_rows.name, kind, seed)
            typer.echo(_line(read(out, run) or measure(run, read_rows, out, _report(run))))


def _known(option: str, names: list[str], known: list[str]) -> list[str]:
    for name in names:
        if name not in known:
            raise UsageError(f"{option} {name}: there is no such; choose of {', '.join(known)}")
    return names


def _report(run: PeerRun) -> Report:
    return lambda step, figure: typer.echo(f"{run.model} {run.data}: step {step:,}, validation {figure:.4f}", err=True)


def _line(result: PeerFigures) -> str:
    metrics = (("recall", result.recall), ("NDCG", result.ndcg), ("MRR", result.mrr))
    values = ", ".join(f"{name}@{k} {value:.4f}" for name, by_k in metrics for k, value in by_k.items())
    return f"{result.model} {result.data} {result.rows} {result.random_seed}: {values}; {result.steps:,} steps"


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except AnabranchError as error:
        print(f"anabranch: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
