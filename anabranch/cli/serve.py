"""`anabranch serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to answer requests on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to answer requests on; 0: any.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Serve Prometheus metrics on this port; 0: any.")] = None,
    metrics_host: Annotated[str | None, typer.Option(help="Address to serve metrics on.")] = None,
) -> None:
    """Answer requests for recommendations over HTTP, from user states that follow the events. See docs/api.md.

    Run one process or more: each has all user states. Keys come from `anabranch keys create --scope rankings:read`;
    without api_keys_file, requests are answered on a loopback address alone.

    Example: anabranch serve --port 8001 --metrics-port 9106
    """
    import threading
    from functools import partial

    from prometheus_client import CollectorRegistry

    from anabranch.kafka import clients
    from anabranch.kafka.log_reader import KafkaLogReader
    from anabranch.kafka.topics import Topics
    from anabranch.service import configure_logging, run_service
    from anabranch.shutdown import stop_on_signals
    from consumers.api.routes.metrics import ApiMetrics
    from consumers.api.server import RECORD_TIMEOUT_S, ApiServer
    from consumers.releases.release_watcher import ReleaseWatcher
    from consumers.replica.log_source import KafkaLogSource
    from consumers.replica.replica import Replica, ReplicaClients
    from consumers.user_states.state_store import StateStore

    settings = settings_of(ctx, serve_host=host, serve_port=port, metrics_port=metrics_port, metrics_host=metrics_host)
    configure_logging(settings)
    stop = stop_on_signals(within_s=15.0)
    clients.require_topics(settings)
    registry, wake = CollectorRegistry(), threading.Event()
    metrics, store = ApiMetrics(registry, Topics(settings).events), StateStore.new(settings)
    watcher = ReleaseWatcher(settings, store.items, metrics, partial(clients.follower, settings))
    connections = ReplicaClients(KafkaLogSource(settings, wake.set), KafkaLogReader(settings, RECORD_TIMEOUT_S))
    replica = Replica(settings, store, connections, watcher, metrics)
    run_service(settings, registry, metrics.loop, stop, ApiServer(settings, replica, metrics, wake).run)
