"""Figures that others report on the same data, with the same split and full ranking."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedFigures:
    """Figures of one paper: recall@20 and MRR@20 for sessions, recall@10 and NDCG@10 for leave-one-out."""

    source: str
    figures: tuple[float, float]
    model: str = ""
    """Name of the model in the files of `make sequential-peers`, if it can be run there."""


SESSIONS = (
    PublishedFigures("SR-GNN", (0.5073, 0.1759)),
    PublishedFigures("GCE-GNN", (0.5422, 0.1904)),
    PublishedFigures("Mssen", (0.5517, 0.1964)),
)
PEERS = {"sasrec": "SASRec", "lrurec": "LRURec", "hstu": "HSTU"}
"""Models that are run here too, on the same rows: name in the files, and title."""
LEAVE_ONE_OUT = {
    "video": (
        PublishedFigures("SASRec", (0.10910, 0.05829), "sasrec"),
        PublishedFigures("LRURec", (0.11337, 0.06198), "lrurec"),
    ),
    "amazon_beauty": (
        PublishedFigures("SASRec, sampled softmax", (0.0921, 0.0531), "sasrec"),
        PublishedFigures("HSTU", (0.0788, 0.0439), "hstu"),
        PublishedFigures("TIGER", (0.0648, 0.0384)),
    ),
    "amazon_toys": (
        PublishedFigures("SASRec, sampled softmax", (0.0970, 0.0580), "sasrec"),
        PublishedFigures("HSTU", (0.0778, 0.0450), "hstu"),
        PublishedFigures("TIGER", (0.0712, 0.0432)),
    ),
}
"""By data set. They learn from `train` alone."""
