"""Models that are updated with one batch of events at a time.

They rank once per user of a batch, not once per event, so they process more events than they answer.

implicit factorises the user-item matrix (ALS): either all of it again, or, with folding in, the users of the batch with
fixed item factors. rtrec fits the sparse linear model (SLIM) of the batch's items again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing

import msgspec
import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from anabranch.kafka import clients, topics
from anabranch.messages import Event
from anabranch.ranking.types import Vectors
from anabranch.settings import Settings
from tests.benchmarks.peers.work import Update, Work, ranking, read_log, read_work

SLATE = 20
FACTORS, ITERATIONS = 64, 8
"""Those of our ALS seed model."""

Slates = list[tuple[list[str], Vectors]]
"""Items, best first, and their scores."""


class Als:
    """implicit. `fold_in`: only the first update fits everything. All users and items are known from the start."""

    def __init__(self, everything: Sequence[Event], fold_in: bool) -> None:
        self._items = sorted({event.item_id or "" for event in everything})
        self._item = {item: number for number, item in enumerate(self._items)}
        self._user = {user: number for number, user in enumerate(sorted({event.user_id for event in everything}))}
        self._counts = csr_matrix((len(self._user), len(self._items)), dtype=np.float32)
        self._fold_in = fold_in
        self._model: AlternatingLeastSquares | None = None

    def update(self, events: Sequence[Event]) -> None:
        """Update the model with more events."""
        users = [self._user[event.user_id] for event in events]
        items = [self._item[event.item_id or ""] for event in events]
        more = csr_matrix((np.ones(len(events), np.float32), (users, items)), self._counts.shape)
        self._counts = self._counts + more
        if self._fold_in and self._model is not None:
            touched = np.unique(users)
            self._model.partial_fit_users(touched, self._counts[touched])
            return
        with threadpool_limits(1, "blas"):  # the threads of implicit and of BLAS would compete
            self._model = AlternatingLeastSquares(factors=FACTORS, iterations=ITERATIONS, random_state=0)
            self._model.fit(self._counts, show_progress=False)

    def slates(self, users: Sequence[str]) -> Slates:
        """The slate of each user."""
        assert self._model is not None, "update comes first"
        numbers = np.array([self._user[user] for user in users])
        items, scores = self._model.recommend(numbers, self._counts[numbers], SLATE, filter_already_liked_items=False)
        return [([self._items[item] for item in row], of_row) for row, of_row in zip(items, scores, strict=True)]


class Slim:
    """rtrec."""

    def __init__(self) -> None:
        from rtrec.models import SLIM
        from rtrec.recommender import Recommender

        self._model = Recommender(SLIM(nn_feature_selection=50))

    def update(self, events: Sequence[Event]) -> None:
        """Update the model with more events."""
        self._model.partial_fit((event.user_id, event.item_id or "", event.ts / 1000, 1.0) for event in events)

    def slates(self, users: Sequence[str]) -> Slates:
        """The slate of each user; rtrec returns no scores, so they are 0."""
        slates = self._model.recommend_batch(list(users), top_k=SLATE, filter_interacted=False)
        return [(items, np.zeros(len(items), np.float32)) for items in slates]


def run(settings: Settings, work: Work) -> None:
    """Learn the history, then the work batch by batch, in order of time."""
    log = sorted(read_log(settings, work), key=lambda logged: logged[1].ts)  # it was read by partition
    backlog = [logged for logged in log if logged[2]]
    updater = Slim() if work.way == "slim" else Als([event for _, event, _ in log], work.way == "fold in")
    updater.update([event for _, event, to_answer in log if not to_answer])
    updates = []
    with closing(clients.producer(settings)) as producer:
        for start in range(0, len(backlog), work.batch):
            begun = time.monotonic()
            batch = backlog[start : start + work.batch]
            updater.update([event for _, event, _ in batch])
            newest = {event.user_id: (record, event) for record, event, _ in batch}
            for (record, event), (items, scores) in zip(newest.values(), updater.slates(list(newest)), strict=True):
                message = ranking(event, record.partition, record.offset, work.way, items, scores)
                key = topics.key(event.user_id)
                producer.send(work.topic, key=key, value=message, partition=record.partition)
            producer.flush()
            updates.append(Update(len(batch), len(newest), time.monotonic() - begun))
    work.figures.write_bytes(msgspec.json.encode(updates))


if __name__ == "__main__":
    run(*read_work())
