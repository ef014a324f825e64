"""A client of `anabranch collect`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from anabranch.client.connection import ServerClient, ServerConnection
from anabranch.client.errors import RequestRefused
from anabranch.client.retries import RETRIES, RetryPolicy
from anabranch.http.messages.collector import EventsAnswer, EventsProblem
from anabranch.messages import Event, encode

PATH = "/v1/events"
TIMEOUT_S = 15.0
"""More than the time that the collector gives the broker for an acknowledgement."""
BATCH_EVENTS = 500
BATCH_BYTES = 524_288
"""Half of what the collector takes by default."""


class CollectorClient(ServerClient):
    """Sends events; safe to use in several threads. Each event keeps its `event_id` in every attempt, so that one that
    arrives twice counts once."""

    def __init__(
        self, url: str, key: str | None = None, timeout_s: float = TIMEOUT_S, retries: RetryPolicy = RETRIES
    ) -> None:
        """`url`: the collector's, such as http://127.0.0.1:8000. `key`: an API key with the scope `events:write`."""
        super().__init__(ServerConnection(url, key, timeout_s, retries))

    def send(self, events: Sequence[Event]) -> EventsAnswer:
        """Publish events in one request. The answer says how many the broker has, and which are refused, by index.

        Raises `RequestRefused` if the request as a whole is wrong, `ServerUnavailable` if it may succeed later: some
        events may have arrived, so send the same ones again.
        """
        return self._send([msgspec.Raw(encode(event)) for event in events])

    def send_batches(self, events: Iterable[Event]) -> EventsAnswer:
        """Publish any number of events, in order, in as many requests as they need. Indexes are those in `events`.

        Raises as `send` does: the events of the requests before are published then.
        """
        taken, refused, first = 0, [], 0
        for batch in _batches(events):
            answer = self._send(batch)
            taken += answer.taken
            refused += [msgspec.structs.replace(refusal, index=first + refusal.index) for refusal in answer.refused]
            first += len(batch)
        return EventsAnswer(taken=taken, refused=refused)

    def _send(self, batch: Sequence[msgspec.Raw]) -> EventsAnswer:
        try:
            return self._connection.post(PATH, EventsAnswer, batch)
        except RequestRefused as error:
            if isinstance(error.problem, EventsProblem) and error.problem.refused:
                return EventsAnswer(taken=0, refused=list(error.problem.refused))  # none of them is valid
            raise


def _batches(events: Iterable[Event]) -> Iterator[list[msgspec.Raw]]:
    """The events as JSON, in lists of at most `BATCH_EVENTS` and `BATCH_BYTES`; a larger event is a list of its own."""
    batch: list[msgspec.Raw] = []
    size = 0
    for event in events:
        payload = encode(event)
        if batch and (len(batch) == BATCH_EVENTS or size + len(payload) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(msgspec.Raw(payload))
        size += len(payload)
    if batch:
        yield batch
