"""What the long-running commands have in common: the log's configuration, the metrics server, a low priority."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext

from prometheus_client import CollectorRegistry

from anabranch.loop_status import LoopStatus
from anabranch.metrics_server import serve
from anabranch.settings import Settings

log = logging.getLogger(__name__)

NICENESS = 10
"""Niceness of processes and threads whose work can wait: under contention, a tenth of a ranker's processor time."""


def configure_logging(settings: Settings) -> None:
    """Log to standard error, one line per record: ours from `log_level` on, libraries' from WARNING on.

    kafka-python warns of every lost connection on its own event loop, so it logs errors only. While a broker is down,
    `kafka.net`, `kafka.cluster` and `kafka.coordinator` log many errors a second with tracebacks, which the fetcher
    logs too, so these three log critical errors only. No upstream issue is known.
    """
    level = logging.getLevelNamesMapping()[settings.log_level]
    log_format = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=max(logging.WARNING, level), format=log_format, force=True)
    logging.getLogger("kafka").setLevel(max(logging.ERROR, level))
    for name in ("kafka.net", "kafka.cluster", "kafka.coordinator"):
        logging.getLogger(name).setLevel(max(logging.CRITICAL, level))
    for name in ("anabranch", "consumers", "models", "producers"):
        logging.getLogger(name).setLevel(level)
    if settings.security_protocol == "SASL_PLAINTEXT":
        log.warning(
            "security_protocol is SASL_PLAINTEXT: events, rankings and, with PLAIN, the password cross the network "
            "unencrypted. Use SASL_SSL"
        )


def lower_priority() -> None:
    """Let the rankers on this machine have the processor first, from now on."""
    os.nice(NICENESS)


def run_service(
    settings: Settings,
    registry: CollectorRegistry,
    loop: LoopStatus,
    stop: threading.Event,
    work: Callable[[threading.Event], None],
) -> None:
    """Run `work(stop)` until it returns. If `metrics_port` is set, serve metrics and the loop's status meanwhile."""
    port = settings.metrics_port
    with nullcontext() if port is None else serve(registry, loop, port, settings.metrics_host) as server:
        if server is not None:
            log.info("metrics at http://%s:%d/metrics", settings.metrics_host, server.port)
        work(stop)
