"""The recommenders by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.benchmarks.peers.sequential import hstu, lrurec, sasrec
from tests.benchmarks.peers.sequential.network import PeerNetwork, PeerTraining


@dataclass(frozen=True)
class SequentialPeer:
    """A recommender: its network for a number of items, and how it is trained."""

    network: Callable[[int], PeerNetwork]
    training: PeerTraining


SEQUENTIAL_PEERS = {
    "lrurec": SequentialPeer(lambda items: lrurec.LruRec(items, lrurec.LruRecConfig()), lrurec.TRAINING),
    "lrurec_long": SequentialPeer(
        lambda items: lrurec.LruRec(items, lrurec.LruRecConfig(dropout=lrurec.LONG_HISTORIES_DROPOUT)),
        lrurec.LONG_HISTORIES,
    ),
    "sasrec": SequentialPeer(lambda items: sasrec.SasRec(items, sasrec.SasRecConfig()), sasrec.TRAINING),
    "hstu": SequentialPeer(lambda items: hstu.Hstu(items, hstu.HstuConfig()), hstu.TRAINING),
}
