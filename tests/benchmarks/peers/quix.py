"""Quix Streams, exactly-once: one event after the other through the ONNX and FAISS calls that our ranker makes.

It does less than our ranker, which is in its favour: no feedback, no deduplication, no co-visit candidates, and of the
list ranker's features only the inner product, the others being 0. It commits a transaction every 5 s by default.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from quixstreams import Application, State, message_context

from anabranch import messages
from anabranch.kafka.topics import Topics
from anabranch.messages import EVENT_TYPES, Event
from anabranch.ranking.inference.user_encoder import EncoderInputs
from anabranch.settings import Settings
from tests.benchmarks.peers.work import HISTORY, Served, Work, read_work

RETRIEVE = 100
KEY = "user"


class PerEvent:
    """Ranks for one event at a time. A user's state is one row, as bytes."""

    def __init__(self, served: Served) -> None:
        self.served = served
        manifest = served.live.manifest
        self._features = len(manifest.features)
        self._layout = np.dtype(
            [
                ("recurrent", np.float32, manifest.state_dims),
                ("vector", np.float32, manifest.dims),
                ("last_ts", np.int64),
                ("history", np.int32, HISTORY),  # newest first, -1 padded
            ]
        )
        self._blank = np.zeros(1, self._layout)
        self._blank["history"] = self._blank["last_ts"] = -1

    def rank(self, payload: bytes, state: bytes | None) -> tuple[bytes, bytes]:
        """The ranking for an event, and the user's new state; None is a new user."""
        event = messages.events.decode(payload)
        user = self._blank.copy() if state is None else np.frombuffer(state, self._layout).copy()
        self._step(event, user)
        live = self.served.live
        rows = np.unique(np.concatenate([live.index.search(user["vector"], RETRIEVE)[0][0], user["history"][0]]))
        rows = rows[rows >= 0]
        features = np.zeros((len(rows), self._features), np.float32)
        features[:, 0] = live.index.vectors(rows) @ user["vector"][0]
        context = message_context()
        message = self.served.ranking(event, context.partition, context.offset, rows, live.order.score(features))
        return message, user.tobytes()

    def _step(self, event: Event, user: NDArray[np.void]) -> None:
        """Update the user [1], unless the catalogue lacks the item."""
        live = self.served.live
        row = self.served.item_ids.rows([event.item_id or ""])
        if not live.index.known(row)[0]:
            return
        seconds = np.maximum(event.ts - user["last_ts"], 0) / 1000 * (user["last_ts"] >= 0)
        recurrent = user["recurrent"].copy()
        user["vector"] = live.encoder.update(
            recurrent,
            EncoderInputs(
                np.zeros(1, np.int64),
                live.index.vectors(row),
                np.array([EVENT_TYPES.index(event.type)], np.uint8),
                seconds.astype(np.float32),
            ),
        )
        user["recurrent"] = recurrent
        user["history"][:, 1:] = user["history"][:, :-1].copy()
        user["history"][:, 0] = row
        user["last_ts"] = np.maximum(user["last_ts"], event.ts)


def stored(ranker: PerEvent) -> Callable[[bytes, State], bytes]:
    """User states in the library's state store: RocksDB with a changelog topic, so that they survive a restart."""

    def answer(payload: bytes, state: State) -> bytes:
        message, user = ranker.rank(payload, state.get_bytes(KEY))
        state.set_bytes(KEY, user)
        return message

    return answer


def in_memory(ranker: PerEvent) -> Callable[[bytes, bytes, int, object], bytes]:
    """User states in a dictionary, which a restart loses: the difference is the cost of the store."""
    users: dict[bytes, bytes] = {}

    def answer(payload: bytes, user: bytes, timestamp: int, headers: object) -> bytes:
        message, users[user] = ranker.rank(payload, users.get(user))
        return message

    return answer


def run(settings: Settings, work: Work) -> None:
    """Answer every event of the work. The offsets of its group are those of the first one."""
    app = Application(
        broker_address=settings.bootstrap_servers,
        consumer_group=work.group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        state_dir=Path(work.folder, "state"),
        loglevel="WARNING",
    )
    ranker = PerEvent(Served.load(settings))
    events = app.topic(Topics(settings).events, key_deserializer="bytes", value_deserializer="bytes")
    frame = app.dataframe(events)
    if work.way == "store":
        frame = frame.apply(stored(ranker), stateful=True)
    else:
        frame = frame.apply(in_memory(ranker), metadata=True)
    frame.to_topic(app.topic(work.topic, key_serializer="bytes", value_serializer="bytes"))
    app.run(count=work.events, collect=False)


if __name__ == "__main__":
    run(*read_work())
