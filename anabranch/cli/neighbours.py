"""`anabranch neighbours`."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    metrics_port: Annotated[int | None, typer.Option(help="Serve Prometheus metrics on this port; 0: any.")] = None,
    metrics_host: Annotated[str | None, typer.Option(help="Address to serve metrics on.")] = None,
) -> None:
    """Count which items are visited together, and publish what changed, as events come.

    Run one process, or one for each of neighbours_shards, which share the items. With live_neighbours=false `reshare`
    publishes the table in place of it.

    Example: anabranch neighbours --metrics-port 9104
    """
    from prometheus_client import CollectorRegistry

    from anabranch.errors import UsageError
    from anabranch.kafka import clients
    from anabranch.service import configure_logging, run_service
    from anabranch.shutdown import stop_on_signals
    from consumers.neighbours.clients import connect
    from consumers.neighbours.metrics import NeighboursMetrics
    from consumers.neighbours.neighbours_job import NeighboursJob

    settings = settings_of(ctx, metrics_port=metrics_port, metrics_host=metrics_host)
    if not settings.live_neighbours:
        raise UsageError(
            "live_neighbours is false, so that `reshare` publishes the co-visit table: set it to true for all "
            "processes (ANABRANCH_LIVE_NEIGHBOURS=true), or do not run this one"
        )
    configure_logging(settings)
    stop = stop_on_signals()
    clients.require_topics(settings)
    registry = CollectorRegistry()
    metrics = NeighboursMetrics(registry)
    job = NeighboursJob(settings, connect(settings), metrics)
    run_service(settings, registry, metrics.loop, stop, job.run)
