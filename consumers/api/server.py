"""The API as a process: one thread has the replica and answers, the main thread speaks HTTP."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial

from starlette.applications import Starlette

from anabranch.http.access import AccessControl
from anabranch.http.admission import Admission
from anabranch.http.application import allowed_origins
from anabranch.http.server import address_of, bind, serve
from anabranch.kafka.rule_topic import change_rules
from anabranch.settings import Settings
from consumers.api.answers.answering import Answering
from consumers.api.answers.query_queue import QueryQueue, resolve
from consumers.api.routes.app import create_app
from consumers.api.routes.endpoints import MAX_BODY_BYTES, Endpoints
from consumers.api.routes.metrics import ApiMetrics
from consumers.api.routes.release_endpoints import ReleaseEndpoints
from consumers.api.routes.release_list import ReleaseList
from consumers.api.routes.route_groups import RouteGroup
from consumers.api.routes.rule_endpoints import RuleEndpoints
from consumers.api.routes.slate_streams import SlateStreams
from consumers.api.routes.stream_endpoints import StreamEndpoints
from consumers.replica.replica import Replica
from consumers.runtime.compute_threads import switch_threads_often, use_one_thread_per_call

MAX_BATCH = 64
"""Queries that are answered at once: they share the calls of the models."""
IDLE_S = 0.05
"""How long the thread sleeps if nothing wakes it: releases and vectors do not."""
GRACE_S = 10
RECORD_TIMEOUT_S = 5.0
"""How long the state of an evicted user may take to be read back: meanwhile nothing is answered."""

log = logging.getLogger(__name__)


class ApiServer:
    """Its construction listens on the address; `run` answers."""

    def __init__(self, settings: Settings, replica: Replica, metrics: ApiMetrics, wake: threading.Event) -> None:
        """`wake` is set whenever the replica has records to apply. Raises `UsageError` if the address cannot be
        listened on."""
        self._settings = settings
        self._replica = replica
        self._metrics = metrics
        self._wake = wake
        self._queue = QueryQueue(wake.set)
        self._streams = SlateStreams(self._queue, replica.changes, settings.serve_streams, metrics)
        self._answering = Answering(settings, replica, time.time)
        self._listener = bind(settings.serve_host, settings.serve_port, "--port")
        self._access = AccessControl.from_settings(settings, self._listener.getsockname()[0])
        self._served = threading.Event()
        """Set once no request is answered any more."""
        self._failure: BaseException | None = None

    def run(self, stop: threading.Event) -> None:
        """Answer requests until `stop` is set. Raises what ended the replica."""
        switch_threads_often()
        thread = threading.Thread(target=self._follow, args=(stop,), name="replica")
        self._replica.start()
        thread.start()
        log.info("requests are answered at %s", address_of(self._listener))
        try:
            serve(self._app(), self._listener, stop, lambda: None, GRACE_S)
        finally:
            stop.set()
            self._served.set()
            self._wake.set()
            thread.join()
            self._replica.close()
        if self._failure is not None:
            raise self._failure

    def _follow(self, stop: threading.Event) -> None:
        """Until requests in flight at the stop are answered too."""
        use_one_thread_per_call()
        try:
            while not self._served.is_set():
                self._wake.clear()
                if stop.is_set():
                    self._streams.end()  # they would never end by themselves
                worked = self._replica.run_once()
                self._streams.notify(self._replica.changes.take())
                if not (worked | self._answer()):
                    self._wake.wait(IDLE_S)
        except BaseException as error:  # `run` raises it
            self._failure = error
            stop.set()
        finally:
            self._streams.end()

    def _answer(self) -> bool:
        """Answer the queries that wait. Whether there were any."""
        waiting = self._queue.take(MAX_BATCH)
        if waiting:
            self._metrics.batch.observe(len(waiting))
            resolve(waiting, self._answering.answer([of_client.query for of_client in waiting]))
        return bool(waiting)

    def _app(self) -> Starlette:
        requests = self._settings.serve_requests_in_flight
        admission = Admission(requests, requests * MAX_BODY_BYTES)
        endpoints = Endpoints(
            self._access,
            admission,
            self._queue,
            self._settings.placements,
            self._replica.freshness_ms,
            self._metrics,
        )
        change = partial(change_rules, self._settings)
        groups: list[RouteGroup] = [
            ReleaseEndpoints(admission, ReleaseList(self._replica, self._settings.releases_dir)),
            StreamEndpoints(self._access, self._streams, self._replica),
            RuleEndpoints(self._access, admission, self._queue, self._replica, change),
        ]
        return create_app(endpoints, self._metrics.loop, allowed_origins(self._settings), groups)
