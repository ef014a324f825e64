"""`anabranch rank`."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    start: Annotated[
        str | None, typer.Option(help="Where a group without committed offsets begins: latest or earliest.")
    ] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Serve Prometheus metrics here.")] = None,
    metrics_host: Annotated[str | None, typer.Option(help="Address to serve them on.")] = None,
    discover: Annotated[bool | None, typer.Option("--discover", help="Leave out what a user has had.")] = None,
    rank: Annotated[str | None, typer.Option(help="every event, or the latest of a user and batch.")] = None,
    instance: Annotated[str | None, typer.Option(help="A name that outlives a restart, this process's alone.")] = None,
) -> None:
    """Rank for every event: events in, rankings and feedback out, one transaction a batch. Run as many as you like.

    Example: anabranch rank --metrics-port 9101
    """
    from prometheus_client import CollectorRegistry

    from anabranch.kafka import clients
    from anabranch.metrics import RankerMetrics
    from anabranch.service import configure_logging, run_service
    from consumers.ranker.clients import connect
    from consumers.ranker.ranker import Ranker
    from consumers.ranker.state_store import StateStore
    from consumers.releases.release_watcher import ReleaseFollower
    from consumers.runtime.shutdown import stop_on_signals

    settings = settings_of(
        ctx,
        start=start,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
        discover=discover,
        rank=rank,
        instance=instance,
    )
    configure_logging(settings)
    stop = stop_on_signals(within_s=5.0)
    clients.require_topics(settings)
    registry = CollectorRegistry()
    metrics, store = RankerMetrics(registry), StateStore.new(settings)
    watcher = ReleaseFollower(settings, store.items, metrics)
    ranker = Ranker(settings, store, connect(settings), watcher, metrics)
    run_service(settings, registry, stop, ranker.run)
