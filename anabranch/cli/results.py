"""`anabranch results`: every table of models/RESULTS.md, measured anew."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    data: Annotated[
        Path, typer.Option(envvar="ANABRANCH_BENCHMARK_DATA", help="The folder of benchmark data.", file_okay=False)
    ] = Path("../shared/data"),
    out: Annotated[Path, typer.Option(help="The page to write.", dir_okay=False)] = Path("models/RESULTS.md"),
    seeds: Annotated[int, typer.Option(min=1, help="Repeats, each with a training seed of its own.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="Measurements side by side, each on one thread.")] = 2,
    only: Annotated[
        list[str] | None, typer.Option(help="Measure these alone; what was measured before is kept.")
    ] = None,
    render: Annotated[
        bool, typer.Option("--render", help="Measure nothing, write the page from what is there.")
    ] = False,
) -> None:
    """Measure the benchmarks and write the page. A measurement that was done is not done again while its file stands.

    Measurements are kept in the data folder's `results`, one JSON file each; remove one to repeat it.

    Example: anabranch results --data ../shared/data
    """
    from anabranch.errors import UsageError
    from anabranch.harness.results import cells, page

    kept = settings_of(ctx).data_dir / "results"
    if not render:
        if not data.is_dir():
            raise UsageError(f"{data} is no folder: name the benchmark data's with --data or ANABRANCH_BENCHMARK_DATA")
        os.environ["OMP_NUM_THREADS"] = "1"  # for the children: two of them beside each other would wait for each other
        cells.measure(cells.chosen(only), data, kept, seeds, jobs)
    out.write_text(page.render(kept, seeds))
    typer.echo(out)
