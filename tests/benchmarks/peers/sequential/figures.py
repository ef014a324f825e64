"""The figures of a run, and the files that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from anabranch.indented_json import write_json
from models.evaluation.rank_files import RankedEvents, write_ranks
from models.metrics.ranking import Ranks, mrr_at, ndcg_at, recall_at
from tests.benchmarks.peers.sequential.rows import LeaveOneOutRows

Rows = Literal["train", "train+validation"]
CUTOFFS = (10, 20)


@dataclass(frozen=True)
class PeerRun:
    """What is trained: a recommender on some rows of a data set."""

    model: str
    data: str
    rows: Rows
    random_seed: int

    def file(self, folder: Path, suffix: str) -> Path:
        """`.json`: the figures; `.npz`: the ranks that they are means of."""
        return folder / f"peer-{self.model}-{self.data}-{self.rows}-{self.random_seed}{suffix}"


class PeerFigures(Struct, frozen=True):
    """Figures on the test rows, by cutoff."""

    model: str
    data: str
    rows: str
    random_seed: int
    recall: dict[str, float]
    ndcg: dict[str, float]
    mrr: dict[str, float]
    events: int
    """Users with a test event and earlier ones."""
    steps: int
    """Of the optimiser; with training rows alone, those with the best validation figure."""
    seconds: float
    """Wall time of training."""


def figures(run: PeerRun, ranks: Ranks, steps: int, seconds: float) -> PeerFigures:
    """The means of the ranks."""
    means = {
        name: {str(k): metric(ranks, k) for k in CUTOFFS}
        for name, metric in (("recall", recall_at), ("ndcg", ndcg_at), ("mrr", mrr_at))
    }
    return PeerFigures(
        run.model, run.data, run.rows, run.random_seed, **means, events=len(ranks), steps=steps, seconds=seconds
    )


def write(folder: Path, run: PeerRun, rows: LeaveOneOutRows, ranks: Ranks, result: PeerFigures) -> None:
    """Write both files. A rank is 0 where the item was excluded. The figures come last: where they are, ranks are."""
    events = RankedEvents([rows.user_ids[user] for user in rows.test.user.tolist()], rows.test.item)
    write_ranks(run.file(folder, ".npz"), events, {"rank": ranks})
    write_json(run.file(folder, ".json"), result)


def read(folder: Path, run: PeerRun) -> PeerFigures | None:
    """The figures of an earlier run; None if there are none."""
    path = run.file(folder, ".json")
    return msgspec.json.decode(path.read_bytes(), type=PeerFigures) if path.is_file() else None
