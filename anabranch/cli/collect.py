"""`anabranch collect`."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to take events on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to take events on; 0: any.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Serve Prometheus metrics on this port; 0: any.")] = None,
    metrics_host: Annotated[str | None, typer.Option(help="Address to serve metrics on.")] = None,
) -> None:
    """Take events over HTTP and publish them: an answer of 202 says that the broker has them. See docs/api.md.

    Run one process or more, behind a proxy that ends TLS. Keys come from `anabranch keys create`; without
    api_keys_file, events are taken on a loopback address alone.

    Example: anabranch collect --port 8000 --metrics-port 9105
    """
    from prometheus_client import CollectorRegistry

    from anabranch.service import configure_logging, run_service
    from anabranch.shutdown import stop_on_signals
    from producers.collector.collector import Collector
    from producers.collector.metrics import CollectorMetrics

    settings = settings_of(
        ctx, collect_host=host, collect_port=port, metrics_port=metrics_port, metrics_host=metrics_host
    )
    configure_logging(settings)
    stop = stop_on_signals(within_s=30.0)
    registry = CollectorRegistry()
    metrics = CollectorMetrics(registry)
    run_service(settings, registry, metrics.loop, stop, Collector(settings, metrics).run)
