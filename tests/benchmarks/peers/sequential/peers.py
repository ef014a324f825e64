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
    "sasrec": SequentialPeer(lambda items: sasrec.SasRec(items, sasrec.SasRecConfig()), sasrec.TRAINING),
    "hstu": SequentialPeer(lambda items: hstu.Hstu(items, hstu.HstuConfig()), hstu.TRAINING),
    "lrurec_long": SequentialPeer(
        lambda items: lrurec.LruRec(items, lrurec.LruRecConfig(dropout=lrurec.LONG_HISTORIES_DROPOUT)),
        lrurec.LONG_HISTORIES,
    ),
}
OF_SHORT_HISTORIES = ("lrurec", "sasrec", "hstu")
"""Those with the settings for short histories, as most folders have."""
