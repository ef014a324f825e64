"""`anabranch evaluate`, protocol by protocol: what it finds, as JSON values."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from anabranch import release
from anabranch.cli.data import Protocol, Way, benchmark_of, read_log
from anabranch.errors import UsageError
from anabranch.progress_bar import bar
from anabranch.ranking.types import Vectors
from anabranch.release import Release
from anabranch.settings import Settings
from models.data.datasets import periods
from models.evaluation.prequential import ServedLog, evaluate_prequentially
from models.evaluation.seed_model_ranks import prediction_points_before, seed_ranks
from models.evaluation.summaries import Quality, improvement_by_cutoff, quality_by_slice
from models.experiments import benchmark as bench
from models.experiments.benchmark import Benchmark, BenchmarkRanks
from models.experiments.continual import run_periods
from models.metrics.ranking import Ranks
from models.offline.offline_ranker import item_text_vectors, rank_events
from models.pipeline.config import ReleaseCandidateConfig
from models.report.prequential_table import prequential_as_json
from models.seeds.co_visit import CoVisitSeedModel
from models.stages import bar_by_stage


@dataclass(frozen=True)
class Evaluation:
    """One call of the command."""

    protocol: Protocol
    data: list[Path]
    items: Path | None
    share: float
    config: ReleaseCandidateConfig
    release_dir: Path | None
    settings: Settings
    with_seeds: bool
    ranks_file: Path | None
    ways: list[Way]

    def run(self) -> dict[str, Any]:
        """Raises `UsageError`, `DataError`, `InvalidRow` and `ReleaseError`."""
        about = {
            "protocol": self.protocol.value,
            "data": [str(path) for path in self.data],
            "seed": self.config.random_seed,
        }
        if self.protocol is Protocol.WEEKLY:
            return about | self._weekly()
        if self.protocol is Protocol.PREQUENTIAL:
            return about | self._prequential()
        return about | self._one_test()

    def _one_test(self) -> dict[str, Any]:
        benchmark = benchmark_of(self.protocol, self.data, self.items, self.share, self.config)
        with self._release(benchmark) as (made, told):
            ranker = bench.offline_ranker(benchmark, made, self.settings.data_dir)
            with bar("Rank the test", None) as advance:
                tested = bench.rank_test(benchmark, ranker, advance)
            if self.ranks_file is not None:
                names, masks = np.array(list(tested.slices)), np.stack(list(tested.slices.values()))
                np.savez_compressed(
                    self.ranks_file, row=tested.row, user=tested.user, rank=tested.rank, slices=names, masks=masks
                )
            texts = item_text_vectors(made, benchmark.items, self.settings.data_dir)
        return told | _quality(tested.rank, tested) | {"seeds": self._seeds(benchmark, tested, texts)}

    def _prequential(self) -> dict[str, Any]:
        log, catalogue = read_log(self.data, self.items)
        benchmark = bench.time_split_benchmark(self.data[0].stem, log, catalogue, self.share, self.config)
        with self._release(benchmark) as (made, told):
            ranker = bench.offline_ranker(benchmark, made, self.settings.data_dir)
            with bar("Rank", len(benchmark.log)) as advance:
                rankings = rank_events(ranker, benchmark.log, benchmark.start, advance)
            served = ServedLog.from_offline(benchmark.log, rankings, made.manifest.id)
            with bar("Score the baselines on the same events", len(benchmark.log)) as advance:
                prequential = evaluate_prequentially(served, policy=ranker.policy, done=advance)
        return told | {"prequential": prequential_as_json(prequential)}

    def _weekly(self) -> dict[str, Any]:
        logs, items = periods(self.data[0])
        ways: dict[str, Any] = {}
        with tempfile.TemporaryDirectory(dir=self._scratch()) as scratch:
            for way in self.ways:
                done = []
                with bar(f"Periods, {way.value}", len(logs) - 1) as advance:
                    for period in run_periods(
                        logs, items, self.config, way.value, Path(scratch), self.settings.data_dir
                    ):
                        done.append(period)
                        advance(1)
                ways[way.value] = {
                    "periods": [_quality(period.ranks.rank, period.ranks) for period in done],
                    "cost": [msgspec.to_builtins(period.cost) for period in done],
                }
        return {"ways": ways}

    @contextmanager
    def _release(self, benchmark: Benchmark) -> Iterator[tuple[Release, dict[str, Any]]]:
        """The release that was named, or one made for the time of the evaluation; and what is told of it."""
        if self.release_dir is not None:
            named = release.opened(self.release_dir)
            named.verify()
            if named.manifest.window.gate_from > benchmark.test_from and self.protocol is not Protocol.PREQUENTIAL:
                raise UsageError(f"release {named.manifest.id} has learned events of the test: share without them")
            yield named, {"release": named.manifest.id}
            return
        with tempfile.TemporaryDirectory(dir=self._scratch()) as scratch:
            with bar_by_stage(bar) as progress:
                made, report, cost = bench.make_release(
                    benchmark, Path(scratch) / "release", self.settings.data_dir, progress
                )
            yield (
                made,
                {
                    "release": made.manifest.id,
                    "strategy": report.strategy,
                    "measured": report.measured,
                    "stages": report.seconds,
                    "cost": msgspec.to_builtins(cost),
                },
            )

    def _seeds(self, benchmark: Benchmark, tested: BenchmarkRanks, texts: Vectors) -> dict[str, Any]:
        """Every seed, fitted on all that comes before the test, on the same events; and the release's lead."""
        if not self.with_seeds:
            return {}
        learned = benchmark.train_log
        rows, _ = bench.rows_of_test_users(benchmark)
        points = prediction_points_before(
            benchmark.log.take(rows), np.searchsorted(rows, tested.row), self.config.policy
        )
        told = {}
        for seed in [CoVisitSeedModel(self.config.co_visits), *self.config.seed_models(self.config)]:
            with bar(f"Seed {seed.name}", None) as advance:
                seed.fit(learned, texts, lambda share: None)
                ranks = seed_ranks(seed, points, tested.item, self.config.policy.slate)
                advance(len(ranks))
            told[seed.name] = {
                **_quality(ranks, tested),
                "lead": {
                    name: msgspec.to_builtins(
                        improvement_by_cutoff(tested.rank[where], ranks[where], tested.user[where])
                    )
                    for name, where in {"all": np.ones(len(ranks), np.bool_), **tested.slices}.items()
                    if where.any()
                },
            }
        return told

    def _scratch(self) -> Path:
        self.settings.data_dir.mkdir(parents=True, exist_ok=True)
        return self.settings.data_dir


def _quality(ranks: Ranks, tested: BenchmarkRanks) -> dict[str, Any]:
    return {
        "all": msgspec.to_builtins(Quality.from_ranks(ranks)),
        "slices": msgspec.to_builtins(quality_by_slice(ranks, tested.slices)),
    }
