"""The collector as a process: listen, connect to Kafka, serve until it is to stop."""

from __future__ import annotations

import logging
import threading
from functools import partial

from anabranch.http.access import AccessControl
from anabranch.http.admission import Admission
from anabranch.http.application import allowed_origins
from anabranch.http.rate_limit import RateLimit
from anabranch.http.server import address_of, bind, serve
from anabranch.kafka import clients
from anabranch.kafka.batch_delivery import BatchDelivery, acknowledged_producer
from anabranch.kafka.topic_admin import TopicAdmin
from anabranch.kafka.topics import Topics
from anabranch.settings import Settings
from producers.collector.app import create_app
from producers.collector.broker_check import BrokerCheck
from producers.collector.event_publisher import KafkaEventPublisher
from producers.collector.forms.limits import CollectorLimits
from producers.collector.forms.shop_names import ShopNames
from producers.collector.metrics import CollectorMetrics
from producers.collector.request_handler import ACKNOWLEDGED_WITHIN_S, RequestHandler
from producers.collector.routes import event_routes

GRACE_S = 15
"""For what is in flight at the end: the broker's time for an answer, and some more."""
FLUSH_S = 5.0
log = logging.getLogger(__name__)


class Collector:
    """Takes events over HTTP. Its construction listens on the address; `run` answers."""

    def __init__(self, settings: Settings, metrics: CollectorMetrics) -> None:
        """Raises `UsageError` if the settings do not go together or the address cannot be listened on."""
        self._settings = settings
        self._metrics = metrics
        self._limits = CollectorLimits.from_settings(settings)
        self._listener = bind(settings.collect_host, settings.collect_port, "--port")
        self._access = AccessControl.from_settings(settings, self._listener.getsockname()[0])

    def run(self, stop: threading.Event) -> None:
        """Answer requests until `stop` is set; then finish those in flight. Raises `BrokerUnavailable`, `TopicsDiffer`
        at the start."""
        settings, topics = self._settings, Topics(self._settings)
        clients.require_topics(settings)
        connect = partial(acknowledged_producer, settings, ACKNOWLEDGED_WITHIN_S)
        delivery = BatchDelivery(connect, ACKNOWLEDGED_WITHIN_S)
        check = BrokerCheck(topics.events, partial(TopicAdmin, settings))
        check.start(stop)
        admission = Admission(settings.collect_requests_in_flight, settings.collect_bytes_in_flight)
        rate_limit = RateLimit(settings.collect_key_events_per_s)
        publisher = KafkaEventPublisher(topics, delivery)
        handler = RequestHandler(self._access, rate_limit, admission, publisher, self._metrics)
        origins = allowed_origins(settings)
        routes = event_routes(handler, self._limits, ShopNames.from_settings(settings), origins)
        app = create_app(routes, self._metrics.loop, origins)
        log.info("events are taken at %s/v1/events", address_of(self._listener))
        try:
            serve(app, self._listener, stop, lambda: self._metrics.loop.turned(check.missing), GRACE_S)
        finally:
            delivery.close(FLUSH_S)
