"""The event stream of a chaos run: real purchases with searches, duplicates, late events and invalid messages."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import cycle, islice
from typing import NamedTuple

import msgspec
import numpy as np
from kafka import KafkaProducer
from kafka.errors import KafkaError

from anabranch.errors import BrokerUnavailable
from anabranch.kafka import clients, topics
from anabranch.kafka.producer import CheckedProducer
from anabranch.messages import Event, encode
from anabranch.settings import Settings
from producers.completejourney import Purchases

DUPLICATE_SHARE, SEARCH_SHARE, LATE_SHARE, INVALID_SHARE = 0.04, 0.03, 0.02, 0.02
LARGE_SHARE = 0.002
"""Per purchase."""
DUPLICATE_WINDOW = 8
"""A duplicate repeats one of the user's newest 8 events, well within the ranker's deduplication window."""
CODECS = (None, "gzip", "snappy", "lz4", "zstd")
MESSAGES_PER_CODEC = 500
"""A producer publishes these, then one with the next codec does."""
DAY_MS = 86_400_000
NESTED = b"[" + b",".join([b"[" * 90 + b"]" * 90] * 5000) + b"]"
"""900 kB of nested arrays, the value of a field that no reader knows."""
MANY_HEADERS = (("", b""),) * 10_000
"""Headers without a byte of their own, which take 20 kB in a batch."""


class Message(NamedTuple):
    """A record on `events`."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


def generate_messages(purchases: Purchases, titles: dict[str, str], random_seed: int) -> Iterator[Message]:
    """The purchases in order of time, with the other kinds of message; `titles`, by item id, are the search queries."""
    random = np.random.default_rng(random_seed)
    recent: dict[str, deque[Event]] = {}
    for number, event in enumerate(purchases.events()):
        yield _message(event if random.random() >= LATE_SHARE else _late(event, random))
        if random.random() < LARGE_SHARE:
            yield _large(event, number)
        of_user = recent.setdefault(event.user_id, deque(maxlen=DUPLICATE_WINDOW))
        of_user.append(event)
        if random.random() < DUPLICATE_SHARE:
            yield _message(of_user[random.integers(len(of_user))])
        if random.random() < SEARCH_SHARE and event.item_id in titles:
            yield _message(_search(event, titles[event.item_id], number))
        if random.random() < INVALID_SHARE:
            yield _invalid(event, number, random)


def _message(event: Event) -> Message:
    return Message(topics.key(event.user_id), encode(event))


def _late(event: Event, random: np.random.Generator) -> Event:
    return msgspec.structs.replace(event, ts=event.ts - int(random.integers(DAY_MS)))


def _search(event: Event, title: str, number: int) -> Event:
    return Event(
        event_id=f"search-{number}", user_id=event.user_id, type="search", ts=event.ts + 1, query=title or "anything"
    )


def _large(event: Event, number: int) -> Message:
    """A valid event of almost the largest size, nearly as deep as may be, which compresses to a few kilobytes."""
    large = _message(msgspec.structs.replace(event, event_id=f"large-{number}"))
    return large._replace(value=(large.value or b"")[:-1] + b',"unknown":' + NESTED + b"}")


def _invalid(event: Event, number: int, random: np.random.Generator) -> Message:
    """One of the kinds of message that no ranker can decode; `number` makes each unique."""
    user = event.user_id
    fields = msgspec.to_builtins(event) | {"event_id": f"poison-{number}"}
    valid = topics.key(user)
    kinds = [
        Message(valid, b"%d: not json" % number),
        Message(valid, None),
        Message(valid, msgspec.json.encode({name: fields[name] for name in ("event_id", "user_id")})),
        Message(valid, msgspec.json.encode(fields | {"type": "wish"})),
        Message(valid, msgspec.json.encode(fields | {"ts": "yesterday"})),
        Message(valid, msgspec.json.encode(fields | {"item_id": "x" * 10_000})),
        Message(valid, msgspec.json.encode(fields).replace(b'"purchase"', b"NaN")),
        Message(valid, msgspec.json.encode(fields).replace(user.encode(), b"\xff\xfe")),
        Message(valid, b"[" * 100_000),
        Message(b"somebody else", msgspec.json.encode(fields)),
        Message(None, msgspec.json.encode(fields)),
        Message(valid, b"%d: many headers" % number + b"x" * 1_040_000, MANY_HEADERS),
    ]
    return kinds[random.integers(len(kinds))]


def publish(settings: Settings, topic: str, messages: Iterable[Message]) -> None:
    """Publish messages as fast as it goes, and wait until all of them are acknowledged. Raises `KafkaError`."""
    with closing(clients.producer(settings)) as producer, CheckedProducer(producer) as delivery:
        for message in messages:
            delivery.send(topic, *message)


class EventStream:
    """Publishes messages at a fixed rate in a thread until stopped, in spite of broken connections and dead brokers.

    Its producers take every codec of Kafka in turn, as the producers of several applications might.
    """

    def __init__(self, settings: Settings, topic: str, messages: Iterator[Message], messages_per_second: float) -> None:
        self._settings = settings
        self._topic = topic
        self.messages = messages
        """Those that are not published yet."""
        self._messages_per_second = messages_per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self._failure: BaseException | None = None
        self.sent = 0
        self.failures = 0
        """How often the producer had to be replaced. Its unacknowledged messages may be on the topic or not."""

    def start(self) -> None:
        """Start to publish."""
        self._thread.start()

    def check(self) -> None:
        """Raise the exception that ended the thread, if one did."""
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Stop to publish, and wait until every message sent is acknowledged. Raises as `check` does."""
        self._stop.set()
        self._thread.join()
        self.check()

    def _run(self) -> None:
        try:
            for codec in cycle(CODECS):
                if self._stop.is_set():
                    return
                try:
                    self._publish_with(codec)
                except (KafkaError, BrokerUnavailable):
                    self.failures += 1
        except BaseException as error:
            self._failure = error

    def _publish_with(self, codec: str | None) -> None:
        producer = clients.producer(self._settings, compression_type=codec)
        try:
            self._publish(producer)
        finally:
            producer.close(timeout=5)

    def _publish(self, producer: KafkaProducer) -> None:
        """Publish the next messages; wait for the end of the run if there are none."""
        started, sent_before = time.monotonic(), self.sent
        with CheckedProducer(producer) as delivery:
            for message in islice(self.messages, MESSAGES_PER_CODEC):
                delivery.send(self._topic, *message)
                self.sent += 1
                due = started + (self.sent - sent_before) / self._messages_per_second
                self._stop.wait(max(0.0, due - time.monotonic()))
                if self._stop.is_set():
                    return
        if self.sent == sent_before:
            self._stop.wait()
