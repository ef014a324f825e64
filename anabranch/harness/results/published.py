"""Figures that others report on the same data, with the same split and full ranking."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedFigures:
    """Figures of one paper: recall@20 and MRR@20 for sessions, recall@10 and NDCG@10 for leave-one-out."""

    source: str
    figures: tuple[float, float]


SESSIONS = (
    PublishedFigures("SR-GNN", (0.5073, 0.1759)),
    PublishedFigures("GCE-GNN", (0.5422, 0.1904)),
    PublishedFigures("Mssen", (0.5517, 0.1964)),
)
LEAVE_ONE_OUT = {
    "video": (PublishedFigures("SASRec", (0.10910, 0.05829)), PublishedFigures("LRURec", (0.11337, 0.06198))),
    "amazon_beauty": (
        PublishedFigures("TIGER", (0.0648, 0.0384)),
        PublishedFigures("HSTU", (0.0788, 0.0439)),
        PublishedFigures("SASRec, sampled softmax", (0.0921, 0.0531)),
    ),
    "amazon_toys": (
        PublishedFigures("TIGER", (0.0712, 0.0432)),
        PublishedFigures("HSTU", (0.0778, 0.0450)),
        PublishedFigures("SASRec, sampled softmax", (0.0970, 0.0580)),
    ),
}
