"""`python -m tests.benchmarks.new_items_of_a_child --data DIR/amazon_beauty`: a child on items new to its parent.

Leave one out. The parent learns everything before each user's last training event, and a tenth of the items is not in
its catalogue. The child has the whole catalogue, and learns the last training event and the validation event of each
user, in which the new items have their first few events. The test is ranked by the child; by a child whose new items
start as noise, as they would without a text; and by the texts alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated
from unittest import mock

import numpy as np
import typer
from torch import nn

from anabranch.release import Release
from anabranch.settings import DEFAULTS
from models.data.datasets import STEP_MS, LeaveOneOut, leave_one_out
from models.data.excluded_items import SlateRules
from models.evaluation.seed_model_ranks import prediction_points_before, seed_ranks
from models.experiments.benchmark import (
    BenchmarkRanks,
    OfflineBenchmark,
    make_release,
    offline_ranker,
    rank_test,
    rows_of_test_users,
)
from models.metrics.bootstrap import paired_interval
from models.metrics.ranking import Gains, Ranks, discounted_gains
from models.networks.encoder import ItemTower
from models.offline.offline_ranker import item_text_vectors
from models.pipeline.config import ReleaseCandidateConfig
from models.pipeline.presets import preset
from models.seeds.text import TextSeedModel

K = 10
NEW_SHARE = 0.1
CHILD = "child"


@dataclass(frozen=True)
class Generations:
    """What a parent and its child learn from. The child's test is each user's last event."""

    parent: OfflineBenchmark
    child: OfflineBenchmark
    new: frozenset[int]
    """Item numbers that the parent does not know."""

    @classmethod
    def divide(cls, data: LeaveOneOut, config: ReleaseCandidateConfig) -> Generations:
        """The draw of new items does not depend on the random seed of training."""
        new = np.random.default_rng(0).permutation(len(data.items))[: round(NEW_SHARE * len(data.items))]
        known = data.log.take(~(np.isin(data.log.item, new) & (data.log.ts < data.last_from)))
        old_items = [item for number, item in enumerate(data.items) if number not in set(new.tolist())]
        parent = OfflineBenchmark("parent", known, old_items, data.last_from - STEP_MS, data.last_from, config)
        child = OfflineBenchmark(CHILD, known, data.items, data.validation_from, data.test_from, config)
        return cls(parent, child, frozenset(new.tolist()))


@contextmanager
def new_items_as_noise() -> Iterator[None]:
    """Residuals of items that a parent has not learned start at length 1, as where there are no texts."""
    drawn = ItemTower.draw_residuals

    def draw(tower: ItemTower, first: int = 1) -> None:
        drawn(tower, first)
        if first > 1:
            nn.init.normal_(tower.residual.weight[first:], std=tower.config.dims**-0.5)

    with mock.patch.object(ItemTower, "draw_residuals", draw):
        yield


def ranks_by_way(generations: Generations, folder: Path, cache: Path) -> tuple[BenchmarkRanks, dict[str, Ranks]]:
    """The tested events, and their ranks by each way to rank them."""
    parent, _, _ = make_release(generations.parent, folder / "parent", cache)
    made, _, _ = make_release(generations.child, folder / CHILD, cache, parent=parent)
    tested = rank_test(generations.child, offline_ranker(generations.child, made, cache))
    with new_items_as_noise():
        noise, _, _ = make_release(generations.child, folder / "noise", cache, parent=parent)
    from_noise = rank_test(generations.child, offline_ranker(generations.child, noise, cache)).rank
    return tested, {
        CHILD: tested.rank,
        "child from noise": from_noise,
        "text alone": _by_text(generations.child, made, tested, cache),
    }


def _by_text(benchmark: OfflineBenchmark, release: Release, tested: BenchmarkRanks, cache: Path) -> Ranks:
    rules = SlateRules(benchmark.config.policy, benchmark.config.layout)
    rows, _ = rows_of_test_users(benchmark)
    points = prediction_points_before(benchmark.log.take(rows), np.searchsorted(rows, tested.row), rules)
    model = TextSeedModel(dims=benchmark.config.white_dims)
    model.fit(benchmark.train_log.with_items(), item_text_vectors(release, benchmark.items, cache), lambda share: None)
    return seed_ranks(model, points, tested.item, rules.slate)


def mean_gains(runs: Sequence[Mapping[str, Ranks]], way: str) -> Gains:
    """Mean over the random seeds of the NDCG@10 of each event, [M]."""
    mean: Gains = np.mean([discounted_gains(run[way], K) for run in runs], axis=0)
    return mean


def main(
    data: Annotated[Path, typer.Option(help="A leave-one-out folder with texts.")],
    random_seeds: Annotated[int, typer.Option(help="Of training.")] = 3,
    cache: Annotated[Path, typer.Option(help="Folder for text vectors.")] = DEFAULTS.data_dir,
) -> None:
    """Print NDCG@10 of each way on new items and on the others, and the child's lead with its 95 % interval."""
    runs: list[dict[str, Ranks]] = []
    for random_seed in range(random_seeds):
        config = replace(preset("histories", random_seed, threads=1), comparison_points=0)
        generations = Generations.divide(leave_one_out([data]), config)
        with tempfile.TemporaryDirectory() as folder:
            tested, ranks = ranks_by_way(generations, Path(folder), cache)
        runs.append(ranks)
    new = np.isin(tested.item, list(generations.new))
    for name, mask in (("new items", new), ("other items", ~new)):
        for way in runs[0]:
            ours, theirs = mean_gains(runs, CHILD)[mask], mean_gains(runs, way)[mask]
            lead = paired_interval(ours, theirs, tested.user[mask])
            interval = f"child - it {lead.difference:+.4f} [{lead.low:+.4f}, {lead.high:+.4f}]"
            typer.echo(f"{name} ({mask.sum():,} events), {way}: NDCG@{K} {theirs.mean():.4f}; {interval}")


if __name__ == "__main__":
    typer.run(main)
