"""`anabranch share`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anabranch.cli import file_options
from anabranch.cli import training_options as options
from anabranch.cli.options import settings_of
from models.experiments.choices import EvaluationProtocol, TextAdapterKind


def command(
    ctx: typer.Context,
    data: options.Data,
    out: Annotated[Path, typer.Option(help="Folder of the release; must not exist yet.", file_okay=False)],
    protocol: options.Protocol = EvaluationProtocol.SESSIONS,
    items: options.Items = None,
    columns: file_options.Columns = None,
    types: file_options.Types = None,
    type: file_options.DefaultType = "purchase",
    encoding: file_options.Encoding = None,
    kind: options.Kind = None,
    share: options.Share = 0.8,
    train_on: options.TrainOn = None,
    random_seed: options.RandomSeed = 0,
    threads: options.Threads = 2,
    strategies: options.Strategies = None,
    search_seconds: options.SearchSeconds = 0.0,
    text_model: options.TextModel = None,
    text_adapter: options.TextAdapter = TextAdapterKind.NONE,
) -> None:
    """Train the seed models, share their knowledge into one encoder, and write a release.

    Uses only the events before the protocol's test. The release passes no gate: use it for measurements, or as the
    first release of a new installation.

    Example: anabranch share --data ../shared/data/diginetica --protocol sessions --out .anabranch/releases/diginetica
    """
    from anabranch.console import output_console
    from anabranch.errors import UsageError
    from anabranch.progress_bar import bar
    from anabranch.release import report_path
    from models.experiments.benchmark import make_release
    from models.experiments.input_data import Division, read_benchmark
    from models.experiments.training_options import TrainingOptions
    from models.report.page import write
    from models.report.report import Report
    from models.report.tensorboard import tensorboard
    from models.stages import bar_by_stage

    if out.exists():
        raise UsageError(f"{out} exists already, and a release never changes: name a new folder with --out")
    settings = settings_of(ctx)
    files = options.input_files(data, items, file_options.event_options(settings, columns, types, type, encoding))
    training = TrainingOptions(
        rankers=settings,
        random_seed=random_seed,
        threads=threads,
        strategies=strategies,
        search_seconds=search_seconds,
        text_model=text_model,
        text_adapter=text_adapter,
    )
    division = Division(protocol, share, train_on)
    benchmark = read_benchmark(division, files, None if kind is None else kind.value, training.config)
    with bar_by_stage(bar) as progress, tensorboard(settings.data_dir, out.name) as curve:
        release, report, cost = make_release(benchmark, out, settings.data_dir, progress, curve=curve)
    page = report_path(settings.data_dir, out.name)
    write(Report(release.manifest, report), page)
    console = output_console()
    console.print(f"{release.folder}: {', '.join(report.seeds)} shared by {report.strategy['name']}", highlight=False)
    console.print(f"{cost.seconds:.0f} s, {cost.cpu_seconds:.0f} s of CPU, {cost.peak_bytes / 2**30:.1f} GiB at most")
    console.print(f"Report on the training: {page}", highlight=False)
