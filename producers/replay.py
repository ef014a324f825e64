"""Replay recorded events to `events`, in order of time, at a given pace."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kafka import KafkaProducer

from anabranch.kafka.producer import CheckedProducer
from anabranch.messages import Event
from producers.event_record import event_record
from producers.pace import FULL_SPEED, DueTimes, Pace, sleep_until


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
    published, due_times = 0, DueTimes(pace)
    with CheckedProducer(producer, progress) as checked:
        for event in events:
            sleep_until(due_times.due_s(published, event.ts))
            record = event_record(topic, event)
            checked.send(record.topic, record.key, record.value)
            published += 1
    return published
