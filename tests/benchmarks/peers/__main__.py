"""`python -m tests.benchmarks.peers`: our ranker and its peers, in one run."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Annotated

import typer

from anabranch.cli.bench_options import (
    BENCH_DIR,
    CATALOGUE_SIZE,
    Backlog,
    Batch,
    DataDir,
    Households,
    Items,
    Json,
    RandomSeed,
    Releases,
    Repeats,
)
from anabranch.console import output_console
from anabranch.errors import AnabranchError
from anabranch.harness.bench.fixture import FixtureOptions, open_fixture
from anabranch.harness.environment.command import prepare_command
from anabranch.indented_json import write_json
from anabranch.settings_loader import load
from tests.benchmarks.peers.compare import PeersConfig, run, show


def main(
    repeats: Repeats = 5,
    events: Backlog = 30_000,
    peer_events: Annotated[int, typer.Option(min=100, help="Events of each backlog that the peers answer.")] = 4_000,
    batch: Batch = 2048,
    update: Annotated[int, typer.Option(min=1, help="Events in one batch of a batch updater.")] = 1_000,
    rate: Annotated[float, typer.Option(min=1, help="Events per second while our freshness is measured.")] = 500.0,
    seconds: Annotated[float, typer.Option(min=1, help="How long our freshness is measured.")] = 5.0,
    items: Items = CATALOGUE_SIZE,
    households: Households = 400,
    random_seed: RandomSeed = 0,
    releases: Releases = None,
    json: Json = None,
    data_dir: DataDir = BENCH_DIR,
) -> None:
    """Measure our ranker and its peers on the same events, broker and machine. Peers that are missing are skipped.

    Example: python -m tests.benchmarks.peers --json peers.json
    """
    folder = data_dir.resolve()
    settings = load(None, os.environ, {"data_dir": str(folder), "releases_dir": str(folder / "releases")})
    prepare_command()
    shutil.rmtree(folder / "peers", ignore_errors=True)  # of an earlier run
    options = FixtureOptions(households, random_seed, releases, items)
    with open_fixture(settings, options) as fixture:
        figures = run(fixture, PeersConfig(repeats, events, peer_events, batch, update, rate, seconds))
    show(figures, output_console())
    if json is not None:
        write_json(json, figures)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except AnabranchError as error:
        sys.exit(f"anabranch: {error}")
