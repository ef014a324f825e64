"""`anabranch reshare`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from anabranch.cli import training_options as options
from anabranch.cli.options import settings_of
from models.experiments.choices import DataKind, TextAdapterKind


def command(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Run once, then exit.")] = False,
    every: Annotated[float, typer.Option(min=0.01, help="Hours from the start of a run to that of the next.")] = 24.0,
    random_seed: options.RandomSeed = 0,
    order_days: Annotated[
        float, typer.Option(min=0.01, help="Days before the gate's that the ranking of candidates is trained on.")
    ] = 14.0,
    gate_days: Annotated[
        float,
        typer.Option(min=0.01, help="Newest days, kept for the gate and used once: a run needs so many new days."),
    ] = 7.0,
    threads: options.Threads = 2,
    kind: Annotated[
        DataKind | None,
        typer.Option(
            help="What the order of events means, which selects the preset of training. Default: found from the events."
        ),
    ] = None,
    search_seconds: options.SearchSeconds = 0.0,
    text_model: options.TextModel = None,
    text_adapter: options.TextAdapter = TextAdapterKind.NONE,
    metrics_port: Annotated[int | None, typer.Option(help="Serve Prometheus metrics on this port; 0: any.")] = None,
    metrics_host: Annotated[str | None, typer.Option(help="Address to serve metrics on.")] = None,
) -> None:
    """Train a release candidate on the feedback so far. The gate decides whether it goes live.

    Where no release has served yet, it first announces one that needs no training, so that ranking begins at once.
    Repeats every --every hours. Needs the `train` extra.

    Example: anabranch reshare --once
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads: rankers on this machine need the cores

    from functools import partial

    from prometheus_client import CollectorRegistry

    from anabranch.kafka import clients
    from anabranch.metrics import ReshareMetrics
    from anabranch.progress_bar import bar
    from anabranch.service import configure_logging, lower_priority, run_service
    from anabranch.shutdown import exit_at_once, stop_on_signals
    from models.experiments.training_options import TrainingOptions
    from models.report.tensorboard import tensorboard
    from models.retraining.run import JobConfig
    from models.retraining.schedule import Schedule
    from models.retraining.windows import WindowLengths

    settings = settings_of(ctx, metrics_port=metrics_port, metrics_host=metrics_host)
    configure_logging(settings)
    stop = stop_on_signals(within_s=8.0)
    clients.require_topics(settings)
    lower_priority()
    training = TrainingOptions(
        rankers=settings,
        random_seed=random_seed,
        threads=threads,
        search_seconds=search_seconds,
        text_model=text_model,
        text_adapter=text_adapter,
    )
    windows = WindowLengths(order_days, gate_days)
    config = JobConfig(windows, None if kind is None else kind.value, training.config)
    registry = CollectorRegistry()
    metrics = ReshareMetrics(registry)
    every_s, curves = None if once else every * 3600, partial(tensorboard, settings.data_dir)
    schedule = Schedule(settings, config, metrics, bar, every_s, curves)
    run_service(settings, registry, metrics.loop, stop, schedule.run)
    if stop.is_set():
        exit_at_once()
