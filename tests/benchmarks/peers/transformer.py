"""A transformer over each user's history: at every event SASRec from the start, then a search; at-least-once.

SASRec in PyTorch (two layers, 64 dimensions, the 64 newest items, one user at a time). Its blocks have random weights:
only speed is measured. Its item vectors are those of the release, so that the search is the same. There is no list
ranker and no feedback, which is in its favour.
"""

from __future__ import annotations

from collections import defaultdict, deque
from contextlib import closing

import numpy as np
import torch

from anabranch.kafka import clients
from anabranch.settings import Settings
from models.seeds.attention import Attention, AttentionConfig
from tests.benchmarks.peers.work import HISTORY, Served, Work, read_log, read_work


def network(served: Served) -> Attention:
    """SASRec over the release's items; an item's number is its row in the index."""
    vectors = served.live.index.vectors(np.arange(len(served.live.index), dtype=np.int32))  # [N, d]
    model = Attention(len(vectors), AttentionConfig(dims=vectors.shape[1], window=HISTORY, kind="sasrec"))
    model.item.weight.data = torch.from_numpy(vectors.copy())
    return model.eval()


@torch.inference_mode()
def run(settings: Settings, work: Work) -> None:
    """Answer every event of the work; the events before it are history."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # with a network as small as this, a second thread makes it slower
    served = Served.load(settings)
    encoder, index = network(served), served.live.index
    histories: dict[str, deque[int]] = defaultdict(lambda: deque(maxlen=HISTORY))
    with closing(clients.producer(settings)) as producer:
        for record, event, to_answer in read_log(settings, work):
            history, row = histories[event.user_id], served.item_ids.rows([event.item_id or ""])
            if index.known(row)[0]:
                history.append(int(row[0]))
            if not to_answer:
                continue
            items = torch.tensor([history or [0]])  # [1, L]
            user = encoder(items)[:, -1].numpy()  # [1, d]
            rows, scores = index.search(user, served.slate)
            message = served.ranking(event, record.partition, record.offset, rows[0], scores[0])
            producer.send(work.topic, key=record.key, value=message, partition=record.partition)
        producer.flush()


if __name__ == "__main__":
    run(*read_work())
