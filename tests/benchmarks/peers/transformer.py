"""What most shops do: at every event the user's whole history through a transformer, then a search; at least once.

SASRec in PyTorch (two layers, 64 dimensions, the 64 newest items, one user at a time). Its blocks have random weights:
only speed is measured. Its items are those of the release, so that the search is the same. There is no learned order
and no feedback, which flatters it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from contextlib import closing

import numpy as np
import torch

from anabranch.kafka import clients
from anabranch.settings import Settings
from models.seeds.attention import Attention, AttentionConfig
from tests.benchmarks.peers.work import HISTORY, Served, Work, log_of, told


def network(served: Served) -> Attention:
    """SASRec over the release's items; item numbers are rows of the index."""
    vectors = served.live.index.vectors(np.arange(len(served.live.index), dtype=np.int32))  # [N, d]
    made = Attention(len(vectors), AttentionConfig(dims=vectors.shape[1], window=HISTORY, kind="sasrec"))
    made.item.weight.data = torch.from_numpy(vectors.copy())
    return made.eval()


@torch.inference_mode()
def run(settings: Settings, work: Work) -> None:
    """Answer every event of the work; the events before it are history."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # a second only adds to what so small a network takes
    served = Served.load(settings)
    encoder, index = network(served), served.live.index
    histories: dict[str, deque[int]] = defaultdict(lambda: deque(maxlen=HISTORY))
    with closing(clients.producer(settings)) as producer:
        for record, event, asked in log_of(settings, work):
            history, row = histories[event.user_id], served.item_ids.rows([event.item_id or ""])
            if index.known(row)[0]:
                history.append(int(row[0]))
            if not asked:
                continue
            items = torch.tensor([history or [0]])  # [1, L]
            user = encoder(items)[:, -1].numpy()  # [1, d]
            rows, scores = index.search(user, served.slate)
            message = served.ranking(event, record.partition, record.offset, rows[0], scores[0])
            producer.send(work.topic, key=record.key, value=message, partition=record.partition)
        producer.flush()


if __name__ == "__main__":
    run(*told())
