"""Ranks of the same events by several rankers, read from the results, and the differences between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anabranch.harness.results.measurements import MeasurementFailed, ranks_file
from models.evaluation.slices import Mask
from models.metrics.bootstrap import Interval, paired_interval
from models.metrics.ranking import Gains, Ranks, discounted_gains, hits, reciprocal_ranks

ALL = "all"
Gain = Callable[[Ranks], Gains]
GAINS: dict[str, Callable[[Ranks, int], Gains]] = {
    "recall": hits,
    "ndcg": discounted_gains,
    "mrr": reciprocal_ranks,
}


@dataclass(frozen=True)
class Metrics:
    """The two metrics of a table."""

    names: tuple[str, str]
    """As in the figures."""
    k: int

    @property
    def titles(self) -> tuple[str, str]:
        """Headings."""
        short = {"recall": "R", "ndcg": "N", "mrr": "MRR"}
        first, second = (f"{short[name]}@{self.k}" for name in self.names)
        return first, second

    @property
    def gains(self) -> tuple[Gain, Gain]:
        """What each event contributes to them."""
        first, second = self.names
        return self._gain(first), self._gain(second)

    def _gain(self, name: str) -> Gain:
        return lambda ranks: GAINS[name](ranks, self.k)


OF_SESSIONS = Metrics(("recall", "mrr"), 20)
OF_HISTORIES = Metrics(("recall", "ndcg"), 10)
OF_TIME_SPLITS = Metrics(("recall", "ndcg"), 20)


@dataclass(frozen=True)
class SeedRanks:
    """Ranks of M events with each of S random seeds of training."""

    source: str
    events: str
    """Digest of the events: with the same, M and their order are the same."""
    user: NDArray[np.int32]  # [M]
    ranks: NDArray[np.int32]  # [S, M]
    masks: Mapping[str, Mask]  # slice → [M]

    def mean_gains(self, gain: Gain) -> Gains:
        """Mean over the random seeds of what each event contributes to a metric, [M]."""
        mean: Gains = np.mean([gain(ranks) for ranks in self.ranks], axis=0)
        return mean

    def in_slice(self, slice: str) -> Mask:
        """Which events [M] are in a slice."""
        return np.ones(len(self.user), np.bool_) if slice == ALL else self.masks[slice]


@dataclass(frozen=True)
class Other:
    """Another ranking of a measurement's events."""

    kind: Literal["without", "seeds"]
    name: str


def read_ranks(folder: Path, name: str, random_seeds: int, other: Other | None = None) -> SeedRanks | None:
    """The ranks of a measurement, or of another ranking of its events; None if none were measured."""
    paths = [folder / ranks_file(name, random_seed) for random_seed in range(random_seeds)]
    files = [np.load(path) for path in paths if path.exists()]
    ranks: list[Ranks | None] = [file["rank"] if other is None else _other_ranks(file, other) for file in files]
    measured = [(file, own) for file, own in zip(files, ranks, strict=True) if own is not None]
    if not measured:
        return None
    first, _ = measured[0]
    masks = dict(zip(first["slices"].tolist(), first["masks"], strict=True))
    return _same_events(name, [file for file, _ in measured], [own for _, own in measured], masks)


def _other_ranks(file: Any, other: Other) -> Ranks | None:
    ranks: Ranks = file[f"{other.kind}_rank"][file[other.kind] == other.name]
    return ranks[0] if len(ranks) else None


def read_peer_ranks(paths: Sequence[Path]) -> SeedRanks | None:
    """The ranks of another library's model; None without files."""
    if not paths:
        return None
    files = [np.load(path) for path in sorted(paths)]
    return _same_events(paths[0].name, files, [file["rank"] for file in files], {})


def difference(ours: SeedRanks, theirs: SeedRanks, gain: Gain, slice: str = ALL) -> Interval:
    """Ours minus theirs: means over random seeds, paired by event; the interval is over users.

    Raises `MeasurementFailed` if they are not of the same events.
    """
    if ours.events != theirs.events:
        raise MeasurementFailed(
            f"{ours.source} and {theirs.source} were measured on different events: remove the files of one of them "
            "from the folder of figures, and measure it again"
        )
    chosen = ours.in_slice(slice)
    return paired_interval(ours.mean_gains(gain)[chosen], theirs.mean_gains(gain)[chosen], ours.user[chosen])


def format_interval(interval: Interval) -> str:
    """A difference with its 95 % interval."""
    return f"{interval.difference:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


def _same_events(source: str, files: Sequence[Any], ranks: Sequence[Ranks], masks: Mapping[str, Mask]) -> SeedRanks:
    """One file per random seed, which must be of the same events."""
    digests = [str(file["events"]) for file in files]
    if len(set(digests)) > 1:
        raise MeasurementFailed(f"{source}: its random seeds were measured on different events: remove its files")
    return SeedRanks(source, digests[0], files[0]["user"], np.stack(ranks), masks)
