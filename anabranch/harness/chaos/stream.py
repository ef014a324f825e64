"""The stream: real purchases, with searches, duplicates, late events and poison among them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
from kafka import KafkaProducer
from kafka.errors import KafkaError

from anabranch.kafka import clients, topics
from anabranch.kafka.producer import Delivery
from anabranch.messages import Event, encode
from anabranch.settings import Settings
from producers.completejourney import Purchases

DUPLICATES, SEARCHES, LATE, POISON = 0.04, 0.03, 0.02, 0.02
"""Shares of the stream."""
RECENT = 8
"""A duplicate repeats one of its user's newest so many events: well within the window kept per user."""
DAY_MS = 86_400_000


class Message(NamedTuple):
    """What is put on `events`."""

    key: bytes | None
    value: bytes | None


def messages(purchases: Purchases, titles: dict[str, str], seed: int) -> Iterator[Message]:
    """The purchases in order, with what else a stream brings; `titles` by item id are what people search for."""
    random = np.random.default_rng(seed)
    recent: dict[str, deque[Event]] = {}
    for number, event in enumerate(purchases.events()):
        yield _message(event if random.random() >= LATE else _late(event, random))
        mine = recent.setdefault(event.user_id, deque(maxlen=RECENT))
        mine.append(event)
        if random.random() < DUPLICATES:
            yield _message(mine[random.integers(len(mine))])
        if random.random() < SEARCHES and event.item_id in titles:
            yield _message(_search(event, titles[event.item_id], number))
        if random.random() < POISON:
            yield _poison(event, number, random)


def _message(event: Event) -> Message:
    return Message(topics.key(event.user_id), encode(event))


def _late(event: Event, random: np.random.Generator) -> Event:
    return msgspec.structs.replace(event, ts=event.ts - int(random.integers(DAY_MS)))


def _search(event: Event, title: str, number: int) -> Event:
    return Event(
        event_id=f"search-{number}", user_id=event.user_id, type="search", ts=event.ts + 1, query=title or "anything"
    )


def _poison(event: Event, number: int, random: np.random.Generator) -> Message:
    """One of the kinds of message that no ranker can read; the number keeps them apart."""
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
    ]
    return kinds[random.integers(len(kinds))]


class Stream:
    """Publishes messages at a rate, in a thread, through broken connections and dead brokers, until stopped."""

    def __init__(self, settings: Settings, topic: str, stream: Iterator[Message], per_second: float) -> None:
        self._settings = settings
        self._topic = topic
        self._stream = stream
        self._per_second = per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self._failure: BaseException | None = None
        self.sent = 0
        self.failures = 0
        """Times the producer had to be replaced. What it had in hand may be on the topic or not: the topic counts."""

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def check(self) -> None:
        """Raises what ended the thread."""
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Publish no more; whatever was sent is answered for."""
        self._stop.set()
        self._thread.join()
        self.check()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                producer = clients.producer(self._settings)
                try:
                    self._publish(producer)
                except KafkaError:
                    self.failures += 1
                finally:
                    producer.close(timeout=5)
        except BaseException as error:
            self._failure = error

    def _publish(self, producer: KafkaProducer) -> None:
        began, before = time.monotonic(), self.sent
        with Delivery(producer) as delivery:
            for message in self._stream:
                delivery.send(self._topic, message.key, message.value)
                self.sent += 1
                self._stop.wait(max(0.0, began + (self.sent - before) / self._per_second - time.monotonic()))
                if self._stop.is_set():
                    return
        self._stop.wait()
