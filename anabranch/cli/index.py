"""`anabranch index`."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    metrics_port: Annotated[int | None, typer.Option(help="Serve Prometheus metrics on this port; 0: any.")] = None,
    metrics_host: Annotated[str | None, typer.Option(help="Address to serve metrics on.")] = None,
) -> None:
    """Publish the item vectors of the live release, and update them when items change. Run one process.

    Example: anabranch index --metrics-port 9102
    """
    from prometheus_client import CollectorRegistry

    from anabranch.kafka import clients
    from anabranch.service import configure_logging, lower_priority, run_service
    from anabranch.shutdown import stop_on_signals
    from consumers.indexer.clients import connect
    from consumers.indexer.indexer import Indexer
    from consumers.indexer.metrics import IndexerMetrics

    settings = settings_of(ctx, metrics_port=metrics_port, metrics_host=metrics_host)
    configure_logging(settings)
    stop = stop_on_signals()
    clients.require_topics(settings)
    lower_priority()
    registry = CollectorRegistry()
    metrics = IndexerMetrics(registry)
    indexer = Indexer(settings, connect(settings), metrics)
    run_service(settings, registry, metrics.loop, stop, indexer.run)
