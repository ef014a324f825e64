"""`python -m tests.benchmarks.peers`: our ranker beside its peers, in one run."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from anabranch.cli.bench import (
    BENCH_DIR,
    CATALOGUE,
    Backlog,
    Batch,
    DataDir,
    Households,
    Items,
    Json,
    Releases,
    Repeats,
    Seed,
)
from anabranch.errors import AnabranchError
from anabranch.harness.bench.fixture import on_stand
from anabranch.settings import load
from tests.benchmarks.peers.compare import Plan, run, show


def main(
    repeats: Repeats = 5,
    events: Backlog = 30_000,
    peer_events: Annotated[int, typer.Option(min=100, help="Of each backlog, the peers' part.")] = 4_000,
    batch: Batch = 2048,
    update: Annotated[int, typer.Option(min=1, help="Events a batch updater takes at once.")] = 1_000,
    rate: Annotated[float, typer.Option(min=1, help="Events a second while our freshness is measured.")] = 500.0,
    seconds: Annotated[float, typer.Option(min=1, help="How long that is.")] = 5.0,
    items: Items = CATALOGUE,
    households: Households = 400,
    seed: Seed = 0,
    releases: Releases = None,
    json: Json = None,
    data_dir: DataDir = BENCH_DIR,
) -> None:
    """Measure our ranker beside its peers: the same events, broker and machine. What is not installed is skipped.

    Example: python -m tests.benchmarks.peers --json peers.json
    """
    folder = data_dir.resolve()
    settings = load(None, os.environ, {"data_dir": str(folder), "releases_dir": str(folder / "releases")})
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop broker and processes, as on Ctrl-C
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    shutil.rmtree(folder / "peers", ignore_errors=True)  # what an earlier run left
    with on_stand(settings, releases, households, seed, items) as stand:
        found = run(stand, Plan(repeats, events, peer_events, batch, update, rate, seconds))
    show(found, Console())
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except AnabranchError as error:
        sys.exit(f"anabranch: {error}")
