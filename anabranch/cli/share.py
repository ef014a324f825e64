"""`anabranch share`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anabranch.cli.data import (
    KIND_OF,
    Adapter,
    Data,
    Items,
    Kind,
    Protocol,
    ProtocolOption,
    SearchSeconds,
    Share,
    Strategies,
    TextAdapter,
    TextModel,
    benchmark_of,
    config_of,
)
from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    data: Data,
    out: Annotated[Path, typer.Option(help="The release's folder, new.", file_okay=False)],
    protocol: ProtocolOption = Protocol.SESSIONS,
    items: Items = None,
    kind: Kind = None,
    share: Share = 0.8,
    seed: Annotated[int, typer.Option(help="Seeds training: equal data then makes an equal release.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads to train with.")] = 2,
    strategies: Strategies = None,
    search_seconds: SearchSeconds = 0.0,
    text_model: TextModel = None,
    text_adapter: TextAdapter = Adapter.NONE,
) -> None:
    """Fit the seeds, share what they know into one encoder, and write a release; what the protocol tests stays unseen.

    No gate has seen the release: it is for measuring, and for a broker without one to begin with.

    Example: anabranch share --data ../shared/data/diginetica --protocol sessions --out .anabranch/releases/diginetica
    """
    from rich.console import Console

    from anabranch.cli.curves import tensorboard
    from anabranch.errors import UsageError
    from anabranch.progress_bar import bar
    from anabranch.release import report_path
    from models.experiments.benchmark import make_release
    from models.report.page import write
    from models.report.report import Report
    from models.stages import bar_by_stage

    if out.exists():
        raise UsageError(f"{out} is there already: name a new folder with --out, a release never changes")
    settings = settings_of(ctx)
    config = config_of(kind or KIND_OF[protocol], seed, threads, strategies, search_seconds, text_model, text_adapter)
    benchmark = benchmark_of(protocol, data, items, share, config)
    with bar_by_stage(bar) as progress, tensorboard(settings.data_dir, out.name) as curve:
        release, report, cost = make_release(benchmark, out, settings.data_dir, progress, curve=curve)
    page = report_path(settings.data_dir, out.name)
    write(Report(release.manifest, report), page)
    console = Console()
    console.print(f"{release.folder}: {', '.join(report.seeds)} shared by {report.strategy['name']}", highlight=False)
    console.print(f"{cost.seconds:.0f} s, {cost.cpu_seconds:.0f} s of CPU, {cost.peak_bytes / 2**30:.1f} GiB at most")
    console.print(f"What it learned, and from what: {page}", highlight=False)
