"""Ranks of targets among all items, by the rules of our own benchmarks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anabranch.errors import AnabranchError
from anabranch.ranking.pipeline.feedback import NOT_ON_SLATE
from models.metrics.ranking import Ranks
from tests.benchmarks.peers.sequential.examples import packed
from tests.benchmarks.peers.sequential.network import PeerNetwork
from tests.benchmarks.peers.sequential.rows import Targets

BATCH = 128
"""Users whose scores of all items are in memory at once."""


class NetworkDiverged(AnabranchError):
    """A network whose scores are not finite has no ranking."""


@torch.no_grad()
def rank_targets(network: PeerNetwork, targets: Targets, window: int) -> Ranks:
    """Ranks [M] of the targets, predicted from the newest `window` items; all items known of a user are excluded.

    Raises `NetworkDiverged`.
    """
    network.eval()
    newest, known = targets.known.newest(window), targets.known.bounds
    ranks = []
    for start in range(0, len(targets.user), BATCH):
        user = targets.user[start : start + BATCH]
        item, packing = packed(targets.known, newest[user])
        scores = network.scores(network(item, packing)[packing.last])  # [B, items]
        seen, of = packed(targets.known, known[user])
        ranks.append(target_ranks(scores, targets.item[start : start + BATCH], (of.row, seen)))
    return np.concatenate(ranks)


def target_ranks(scores: Tensor, target: NDArray[np.int64], excluded: tuple[Tensor, Tensor]) -> Ranks:
    """Rank of each target [B] in a row of scores [B, items], without the `excluded` (row, item) places.

    Of equal scores the lower item number comes first, as in our slates. An excluded target is not on the slate. Raises
    `NetworkDiverged`.
    """
    row, item = torch.arange(len(target)), torch.from_numpy(target)
    if not bool(torch.isfinite(scores.sum())):
        raise NetworkDiverged("the network's scores are not finite: its training diverged; lower the learning rate")
    scores = scores.index_put(excluded, torch.tensor(-torch.inf))
    own = scores[row, item][:, None]  # [B, 1]
    rank = 1 + (scores > own).count_nonzero(dim=1)
    ties = (scores == own).nonzero()  # [n, 2], each target itself among them
    rank += torch.bincount(ties[ties[:, 1] < item[ties[:, 0]], 0], minlength=len(rank))
    return rank.where(~own[:, 0].isneginf(), NOT_ON_SLATE).numpy().astype(np.int32)
