"""`anabranch rank`."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    start: Annotated[
        str | None, typer.Option(help="Where a group without committed offsets starts: latest, earliest.")
    ] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Serve Prometheus metrics on this port; 0: any.")] = None,
    metrics_host: Annotated[str | None, typer.Option(help="Address to serve metrics on.")] = None,
    exclude_seen: Annotated[
        bool | None, typer.Option("--exclude-seen", help="Never rank items the user has already interacted with.")
    ] = None,
    rank: Annotated[
        str | None, typer.Option(help="`every` event gets a ranking, or each user's `latest` in a batch.")
    ] = None,
    instance: Annotated[
        str | None, typer.Option(help="Name of this process across restarts; unique among running processes.")
    ] = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="End once every event is ranked and saved: before `topics repartition`.")
    ] = False,
) -> None:
    """Publish a ranking and feedback for every event, with one transaction per batch. Run one process or more.

    Example: anabranch rank --metrics-port 9101
    """
    from functools import partial

    from prometheus_client import CollectorRegistry

    from anabranch.kafka import clients
    from anabranch.metrics import RankerMetrics
    from anabranch.service import configure_logging, run_service
    from anabranch.shutdown import stop_on_signals
    from consumers.ranker.clients import connect
    from consumers.ranker.ranker import Ranker
    from consumers.releases.release_watcher import ReleaseWatcher
    from consumers.user_states.state_store import StateStore

    settings = settings_of(
        ctx,
        start=start,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
        exclude_seen=exclude_seen,
        rank=rank,
        instance=instance,
        checkpoint_ms=0 if drain else None,
    )
    configure_logging(settings)
    stop = stop_on_signals(within_s=5.0)
    clients.require_topics(settings, more=drain)
    registry = CollectorRegistry()
    metrics, store = RankerMetrics(registry), StateStore.new(settings)
    watcher = ReleaseWatcher(settings, store.items, metrics, partial(clients.follower, settings))
    ranker = Ranker(settings, store, connect(settings), watcher, metrics)
    run_service(settings, registry, metrics.loop, stop, partial(ranker.run, drain=drain))
