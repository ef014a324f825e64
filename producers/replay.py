"""Replay recorded events to `events`, in order of time, at a given pace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from kafka import KafkaProducer

from anabranch.kafka import topics
from anabranch.kafka.producer import CheckedProducer
from anabranch.messages import Event, encode
from producers.pace import FULL_SPEED, Pace

MIN_SLEEP_S = 0.001
"""Shorter waits are not worth a system call."""


def replay(
    events: Iterable[Event],
    producer: KafkaProducer,
    topic: str,
    pace: Pace = FULL_SPEED,
    progress: Callable[[int], None] = lambda n: None,
) -> int:
    """Publish events with their users as keys, wait until the broker has acknowledged all, and return their number.

    The record's timestamp is the time of publication, because retention and latency are measured from it; the event's
    `ts` stays the time when it happened. Raises `kafka.errors.KafkaError` if the broker refuses an event.
    """
    published, first_ts, started = 0, None, time.monotonic()
    with CheckedProducer(producer, progress) as checked:
        for event in events:
            first_ts = event.ts if first_ts is None else first_ts
            _sleep_until(started + pace.due_s(published, event.ts - first_ts))
            checked.send(topic, topics.key(event.user_id), encode(event))
            published += 1
    return published


def _sleep_until(due_s: float) -> None:
    wait_s = due_s - time.monotonic()
    if wait_s > MIN_SLEEP_S:
        time.sleep(wait_s)
