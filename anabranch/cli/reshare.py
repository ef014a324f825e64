"""`anabranch reshare`."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Annotated

import typer

from anabranch.cli.data import Adapter, DataKind, SearchSeconds, TextAdapter, TextModel, config_of
from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="One run, then end.")] = False,
    every: Annotated[float, typer.Option(min=0.01, help="Hours from the start of one run to that of the next.")] = 24.0,
    seed: Annotated[int, typer.Option(help="Seeds training: equal feedback then makes an equal candidate.")] = 0,
    order_days: Annotated[float, typer.Option(min=0.01, help="Days that teach the order, before the gate's.")] = 14.0,
    gate_days: Annotated[
        float, typer.Option(min=0.01, help="Newest days, which only the gate sees, once: a run needs so many new ones.")
    ] = 7.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads to train with.")] = 2,
    kind: Annotated[DataKind, typer.Option(help="What the order of events means: where training starts from.")] = (
        DataKind.BASKETS
    ),
    search_seconds: SearchSeconds = 0.0,
    text_model: TextModel = None,
    text_adapter: TextAdapter = Adapter.NONE,
    metrics_port: Annotated[int | None, typer.Option(help="Serve Prometheus metrics here.")] = None,
    metrics_host: Annotated[str | None, typer.Option(help="Address to serve them on.")] = None,
) -> None:
    """Make a candidate from the feedback so far; the gate decides whether it goes live. Needs the `train` extra.

    Example: anabranch reshare --once
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads: what serves needs the cores too

    from functools import partial

    from prometheus_client import CollectorRegistry

    from anabranch.cli.curves import tensorboard
    from anabranch.cli.service import give_way, serve, start_log
    from anabranch.kafka import clients
    from anabranch.metrics import ReshareMetrics
    from anabranch.progress_bar import bar
    from anabranch.ranking.policy import Policy
    from consumers.runtime.shutdown import stop_on_signals
    from models.retraining.job import JobConfig
    from models.retraining.schedule import Schedule
    from models.retraining.windows import WindowLengths

    settings = settings_of(ctx, metrics_port=metrics_port, metrics_host=metrics_host)
    start_log(settings)
    stop = stop_on_signals()
    clients.require_topics(settings)
    give_way()
    registry = CollectorRegistry()
    candidate = replace(
        config_of(kind, seed, threads, search_seconds=search_seconds, text_model=text_model, text_adapter=text_adapter),
        policy=Policy.of(settings),
    )
    config = JobConfig(WindowLengths(order_days, gate_days), candidate)
    every_s, curves = None if once else every * 3600, partial(tensorboard, settings.data_dir)
    schedule = Schedule(settings, config, ReshareMetrics(registry), bar, every_s, curves)
    serve(settings, registry, stop, schedule.run)
