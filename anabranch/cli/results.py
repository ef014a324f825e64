"""`anabranch results`: measure every table of models/RESULTS.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    ctx: typer.Context,
    data: Annotated[
        Path, typer.Option(envvar="ANABRANCH_BENCHMARK_DATA", help="The folder of benchmark data.", file_okay=False)
    ] = Path("../shared/data"),
    out: Annotated[Path, typer.Option(help="The page to write.", dir_okay=False)] = Path("models/RESULTS.md"),
    random_seeds: Annotated[int, typer.Option(min=1, help="Repeats, each with another random seed of training.")] = 3,
    seeds: Annotated[int | None, typer.Option(min=1, hidden=True, help="The old name of --random-seeds.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Measurements at a time, each on one thread.")] = 2,
    only: Annotated[list[str] | None, typer.Option(help="Make this measurement alone; may be repeated.")] = None,
    timed: Annotated[
        list[Path] | None,
        typer.Option(
            help="Measure this data with time stamps too: a folder with a file of events and one of items, such as "
            "events.csv and items.csv, as for `check`; may be repeated.",
            file_okay=False,
        ),
    ] = None,
    figures: Annotated[
        Path, typer.Option(help="The folder of figures and ranks, from which the page is written.", file_okay=False)
    ] = Path("models/results"),
    render: Annotated[
        bool, typer.Option("--render", help="Measure nothing: write the page from the figures that are there.")
    ] = False,
) -> None:
    """Measure the benchmarks and write the page. A measurement whose figures are there is not made again.

    Each measurement has two files in the folder of figures: .json, its figures, and .npz, the rank of every event.
    Remove the first to repeat it. The page has the figures of `make sequential-peers` too, which are in that
    folder.

    Example: anabranch results --data ../shared/data
    """
    from anabranch.cli.options import settings_of
    from anabranch.harness.results.measurements import Places, measure, select
    from anabranch.harness.results.page import render as render_page
    from anabranch.harness.results.timed_data import TimedData

    repeats = seeds or random_seeds
    if not render:
        more = [TimedData.in_folder(folder) for folder in timed or ()]
        places = Places(data, figures, scratch=settings_of(ctx).data_dir / "results")
        measure(select(only, more), places, repeats, jobs)
    out.write_text(render_page(figures, repeats))
    typer.echo(out)
