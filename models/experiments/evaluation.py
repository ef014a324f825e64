"""Offline evaluation of a release, protocol by protocol, with the results as JSON values."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from anabranch import release
from anabranch.errors import UsageError
from anabranch.progress_bar import bar
from anabranch.ranking.types import Vectors
from anabranch.release import Release
from models.data.event_log import NotEnoughData
from models.evaluation.prequential import ServedLog, evaluate_prequentially
from models.evaluation.rank_files import RankedEvents, write_ranks
from models.evaluation.seed_model_ranks import prediction_points_before, seed_ranks
from models.evaluation.summaries import Quality, improvement_by_cutoff, quality_by_placement, quality_by_slice
from models.experiments import benchmark as bench
from models.experiments.attribution import CompleteRanking, rank_without, trained_again
from models.experiments.benchmark import BenchmarkRanks, OfflineBenchmark
from models.experiments.candidates_of_test import candidates_of_test
from models.experiments.choices import EvaluationProtocol, WeeklyUpdate
from models.experiments.continual import Period, run_periods
from models.experiments.input_data import Division, InputFiles, read_benchmark, read_weeks
from models.experiments.parts import Part, choose_parts
from models.experiments.variety_of_test import cost_of_variety
from models.metrics.ranking import Ranks
from models.offline.offline_ranker import OfflineRanker, item_text_vectors, rank_events
from models.pipeline.baselines import make_baselines
from models.pipeline.config import ReleaseCandidateConfig
from models.pipeline.presets import Kind
from models.report.prequential_table import prequential_as_json
from models.stages import bar_by_stage


@dataclass(frozen=True)
class EvaluatedRelease:
    """The release to evaluate."""

    release: Release
    summary: dict[str, Any]
    """What the results say of it."""
    provisional: OfflineRanker | None = None
    """See `ReleaseCandidate`; None unless it was trained here and parts are taken out."""


@dataclass(frozen=True)
class Evaluation:
    """An offline evaluation of one release, or of one training configuration."""

    division: Division
    files: InputFiles
    random_seed: int
    kind: Kind | None
    """The kind of data; None: the usual one of the protocol's folders, or found from the events."""
    configure: Callable[[Kind], ReleaseCandidateConfig]
    """The configuration of training for a kind of data."""
    release_dir: Path | None
    """The release to evaluate; None: train one for the evaluation."""
    data_dir: Path
    """Folder for caches and temporary releases."""
    with_seed_models: bool
    ranks_file: Path | None
    """Where to write the rank of every test event, as .npz."""
    ways: list[WeeklyUpdate]
    without: str | None = None
    """Names of parts to take out, one at a time, separated by commas, or `each`; None: none."""

    @property
    def protocol(self) -> EvaluationProtocol:
        """How the data is divided."""
        return self.division.protocol

    def run(self) -> dict[str, Any]:
        """The results, as JSON values. Raises `UsageError`, `DataError`, `NotEnoughData` and `ReleaseError`."""
        header = {
            "protocol": self.protocol.value,
            "data": [str(path) for path in self.files.data],
            "seed": self.random_seed,
        }
        self.division.check()
        self._check_without()
        if self.protocol is EvaluationProtocol.WEEKLY:
            return header | self._weekly()
        if self.protocol is EvaluationProtocol.PREQUENTIAL:
            return header | self._prequential()
        return header | self._one_test()

    def _one_test(self) -> dict[str, Any]:
        benchmark = read_benchmark(self.division, self.files, self.kind, self.configure)
        _require_predictions(benchmark)
        parts = [] if self.without is None else choose_parts(self.without, benchmark)
        with self._release(benchmark) as trained:
            ranker = bench.offline_ranker(benchmark, trained.release, self.data_dir)
            with bar("Rank the test", None) as advance:
                tested = bench.rank_test(benchmark, ranker, advance)
            with bar("Candidates of the test", None) as advance:
                candidates = candidates_of_test(benchmark, ranker, tested, advance)
            texts = item_text_vectors(trained.release, benchmark.items, self.data_dir)
            without = dict(self._without(parts, benchmark, ranker, trained.provisional))
        seed_models = dict(self._rank_by_seed_models(benchmark, tested, texts))
        if self.ranks_file is not None:
            _write_ranks(self.ranks_file, benchmark, tested, {"without": without, "seeds": seed_models})
        return {
            **trained.summary,
            **({} if self.division.train_on is None else {"rows": self.division.train_on.value}),
            **_quality(tested.rank, tested),
            "candidates": msgspec.to_builtins(candidates.coverage),
            "placements": msgspec.to_builtins(
                quality_by_placement(tested.ranks[:, 1:], ranker.policy.placements[1:], tested.slices["repeat"])
            ),
            "variety": msgspec.to_builtins(candidates.variety),
            "cost_of_variety": msgspec.to_builtins(cost_of_variety(ranker.policy, tested)),
            "seeds": {name: _comparison(tested, ranks) for name, ranks in seed_models.items()},
            "without": {
                part.name: {"trained_again": trained_again(part)} | _comparison(tested, without[part.name])
                for part in parts
            },
        }

    def _without(
        self,
        parts: Sequence[Part],
        benchmark: OfflineBenchmark,
        ranker: OfflineRanker,
        provisional: OfflineRanker | None,
    ) -> Iterator[tuple[str, Ranks]]:
        """The ranks [M] of the test's events without each part, by the part's name."""
        for number, part in enumerate(parts):
            assert provisional is not None  # kept wherever parts are taken out
            complete = CompleteRanking(benchmark, ranker, provisional)
            with tempfile.TemporaryDirectory(dir=self._scratch_parent()) as scratch, bar_by_stage(bar) as progress:
                folder = Path(scratch) / f"without-{number}"
                yield part.name, rank_without(part, complete, folder, self.data_dir, progress).rank

    def _check_without(self) -> None:
        """Raises `UsageError` if parts are to be taken out of what is not trained here, or not from a preset."""
        if self.without is None:
            return
        self.division.require_one_test("--without")
        if self.release_dir is not None:
            raise UsageError("--without trains releases without a part, to compare them with: leave --release out")

    def _prequential(self) -> dict[str, Any]:
        benchmark = read_benchmark(self.division, self.files, self.kind, self.configure)
        _require_predictions(benchmark)
        with self._release(benchmark) as trained:
            ranker = bench.offline_ranker(benchmark, trained.release, self.data_dir)
            with bar("Rank", len(benchmark.log)) as advance:
                rankings = rank_events(ranker, benchmark.log, benchmark.start, advance)
            served = ServedLog.from_offline(benchmark.log, rankings, trained.release.manifest.id)
            against = make_baselines(
                benchmark.config, item_text_vectors(trained.release, benchmark.items, self.data_dir)
            )
            with bar("Score the baselines on the same events", len(benchmark.log)) as advance:
                prequential = evaluate_prequentially(served, ranker.rules, against, done=advance)
        return trained.summary | {"prequential": prequential_as_json(prequential)}

    def _weekly(self) -> dict[str, Any]:
        logs, items, config = read_weeks(self.division, self.files, self.kind, self.configure)
        ways: dict[str, Any] = {}
        with tempfile.TemporaryDirectory(dir=self._scratch_parent()) as scratch:
            for way in self.ways:
                results = []
                with bar(f"Periods, {way.value}", len(logs) - 1) as advance:
                    for period in run_periods(logs, items, config, way.value, Path(scratch), self.data_dir):
                        results.append(period)
                        advance(1)
                ways[way.value] = {
                    "periods": [_period_quality(period) for period in results],
                    "cost": [msgspec.to_builtins(period.cost) for period in results],
                }
        return {"ways": ways}

    @contextmanager
    def _release(self, benchmark: OfflineBenchmark) -> Iterator[EvaluatedRelease]:
        """The release to evaluate, or one trained for the time of the evaluation."""
        if self.release_dir is not None:
            existing = release.open_release(self.release_dir)
            existing.verify()
            after_test = existing.manifest.window.gate_from > benchmark.trained_until
            if after_test and self.protocol is not EvaluationProtocol.PREQUENTIAL:
                raise UsageError(
                    f"release {existing.manifest.id} was trained on events that it must not know, those of the test or "
                    "of the validation: name another, or leave --release out"
                )
            yield EvaluatedRelease(existing, {"release": existing.manifest.id})
            return
        config = replace(benchmark.config, keep_provisional=self.without is not None)
        benchmark = replace(benchmark, config=config)
        with tempfile.TemporaryDirectory(dir=self._scratch_parent()) as scratch:
            with bar_by_stage(bar) as progress:
                trained, report, cost = bench.make_release(
                    benchmark, Path(scratch) / "release", self.data_dir, progress
                )
            summary = {
                "release": trained.manifest.id,
                "strategy": report.strategy,
                "measured": report.measured,
                "stages": report.seconds,
                "cost": msgspec.to_builtins(cost),
            }
            yield EvaluatedRelease(trained, summary, report.provisional)

    def _rank_by_seed_models(
        self, benchmark: OfflineBenchmark, tested: BenchmarkRanks, texts: Vectors
    ) -> Iterator[tuple[str, Ranks]]:
        """The ranks [M] of the test's events by every seed model, trained on the events that the release learned."""
        if not self.with_seed_models:
            return
        train_log, config = benchmark.train_log, benchmark.config
        rows, _ = bench.rows_of_test_users(benchmark)
        rules = config.rules
        points = prediction_points_before(benchmark.log.take(rows), np.searchsorted(rows, tested.row), rules)
        for seed in config.all_seed_models():
            with bar(f"Seed model {seed.name}", None) as advance:
                seed.fit(train_log.with_items(), texts, lambda share: None)
                ranks = seed_ranks(seed, points, tested.item, rules.slate)
                advance(len(ranks))
            yield seed.name, ranks

    def _scratch_parent(self) -> Path:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        return self.data_dir


def _require_predictions(benchmark: OfflineBenchmark) -> None:
    """Raises `NotEnoughData` if no event of the test can be predicted."""
    tested = len(benchmark.log) - benchmark.start
    if not (benchmark.log.previous()[benchmark.start :] >= 0).any():
        raise NotEnoughData(
            f"{benchmark.name}: none of the {tested:,} test events has an earlier event of its user, so none can be "
            "predicted: give more events of users who come back, or a smaller --share"
        )


def _quality(ranks: Ranks, tested: BenchmarkRanks) -> dict[str, Any]:
    return {
        "all": msgspec.to_builtins(Quality.from_ranks(ranks)),
        "slices": msgspec.to_builtins(quality_by_slice(ranks, tested.slices)),
    }


def _period_quality(period: Period) -> dict[str, Any]:
    stale = {str(age): _quality(ranks, period.ranks) for age, ranks in period.by_stale_release.items()}
    return _quality(period.ranks.rank, period.ranks) | {"stale": stale}


def _comparison(tested: BenchmarkRanks, ranks: Ranks) -> dict[str, Any]:
    """Metrics of other ranks [M] of the same events, and the improvement of the release over them."""
    return _quality(ranks, tested) | {"lead": _improvements(tested, ranks)}


def _improvements(tested: BenchmarkRanks, ranks: Ranks) -> dict[str, Any]:
    """The improvement of the release over other ranks [M], over all events and in every slice."""
    masks = {"all": np.ones(len(ranks), np.bool_), **tested.slices}
    return {
        name: msgspec.to_builtins(improvement_by_cutoff(tested.rank[mask], ranks[mask], tested.user[mask]))
        for name, mask in masks.items()
        if mask.any()
    }


def _write_ranks(
    path: Path, benchmark: OfflineBenchmark, tested: BenchmarkRanks, others: Mapping[str, Mapping[str, Ranks]]
) -> None:
    """Write the ranks of every event, and its slices.

    `others` are other rankings of the same events, by kind and name: their names are written under the kind, and their
    ranks under KIND_rank.
    """
    ranks = {
        f"{kind}_rank": np.array(list(rankings.values()), np.int32).reshape(len(rankings), len(tested.rank))
        for kind, rankings in others.items()
    }
    write_ranks(
        path,
        RankedEvents([benchmark.log.user_ids[user] for user in tested.user.tolist()], tested.item),
        {"rank": tested.rank, "masks": np.stack(list(tested.slices.values())), **ranks},
        {"slices": list(tested.slices), **{kind: list(rankings) for kind, rankings in others.items()}},
    )
