"""What the long-running commands have in common: a log, metrics, an orderly end."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext

from prometheus_client import CollectorRegistry

from anabranch import metrics
from anabranch.settings import Settings

log = logging.getLogger(__name__)

NICENESS = 10
"""Of work that may wait: a tenth of what a process that ranks gets of a processor for which both ask."""


def start_log(settings: Settings) -> None:
    """Log to standard error, one line each; libraries only what is worth a warning."""
    level = logging.getLevelNamesMapping()[settings.log_level]
    libraries = max(logging.WARNING, level)
    logging.basicConfig(level=libraries, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    logging.getLogger("kafka").setLevel(max(logging.ERROR, level))  # warns of its own event loop
    for chatty in ("kafka.net", "kafka.cluster", "kafka.coordinator"):  # many lines a second, with tracebacks, while a
        logging.getLogger(chatty).setLevel(max(logging.CRITICAL, level))  # broker is away; the fetcher says it too
    for ours in ("anabranch", "consumers", "models", "producers"):
        logging.getLogger(ours).setLevel(level)


def give_way() -> None:
    """Let who ranks on this machine go first, from now on: with a new release there is much to do at once."""
    os.nice(NICENESS)


def serve(
    settings: Settings, registry: CollectorRegistry, stop: threading.Event, work: Callable[[threading.Event], None]
) -> None:
    """Run `work` until it ends, with the registry's metrics served if a port is set."""
    port = settings.metrics_port
    server = nullcontext() if port is None else metrics.serve(registry, port, settings.metrics_host)
    with server as serving:
        if serving is not None:
            log.info("metrics at http://%s:%d/metrics", settings.metrics_host, serving.port)
        work(stop)
