"""What each part of a served ranking adds: the test ranked again with one part taken out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from anabranch.ranking.inference.list_ranker import OnnxListRanker
from anabranch.release import UnverifiedRelease
from models.experiments.benchmark import BenchmarkRanks, OfflineBenchmark, make_release, offline_ranker, rank_test
from models.experiments.parts import LearnedOrder, Part, ServedPart, TrainedPart
from models.networks.onnx_export import export_list_ranker
from models.offline.offline_ranker import OfflineRanker
from models.pipeline.bootstrap_release import fixed_list_ranker
from models.pipeline.list_ranker_stage import hold_out_points, train_list_ranker
from models.stages import Progress, Stages
from models.training_curves import no_curve


@dataclass(frozen=True)
class CompleteRanking:
    """A ranking with all of its parts."""

    benchmark: OfflineBenchmark
    ranker: OfflineRanker
    """As it serves."""
    provisional: OfflineRanker
    """As it was when the list ranker was trained: its encoder has not learned the list ranker's window."""


def trained_again(part: Part) -> str:
    """What is trained again to take a part out."""
    if isinstance(part, TrainedPart):
        return "release"
    return "list ranker" if isinstance(part, ServedPart) else "nothing"


def rank_without(
    part: Part, complete: CompleteRanking, folder: Path, cache: Path, progress: Progress
) -> BenchmarkRanks:
    """Rank the test without the part. `folder` is for files and must not exist; `cache` holds text vectors.

    Raises `NotEnoughData` if too little is left to train on.
    """
    if isinstance(part, TrainedPart):
        benchmark = part.take_out(complete.benchmark)
        release, _, _ = make_release(benchmark, folder, cache, progress)
        return rank_test(benchmark, offline_ranker(benchmark, release, cache))
    folder.mkdir()
    if isinstance(part, LearnedOrder):
        return rank_test(complete.benchmark, _with_fixed_order(complete.ranker, folder))
    return rank_test(complete.benchmark, _with_new_order(part, complete, folder, progress))


def _with_fixed_order(ranker: OfflineRanker, folder: Path) -> OfflineRanker:
    export_list_ranker(fixed_list_ranker(), folder)
    return replace(ranker, live=replace(ranker.live, order=OnnxListRanker(UnverifiedRelease(folder))))


def _with_new_order(part: ServedPart, complete: CompleteRanking, folder: Path, progress: Progress) -> OfflineRanker:
    """The ranker without the part, and a list ranker trained on what is left of the candidates and features."""
    config = complete.benchmark.config
    inputs = complete.benchmark.inputs().numbered_by_catalogue()
    result = train_list_ranker(
        inputs,
        hold_out_points(inputs, config),
        part.take_out(complete.provisional),
        folder,
        config,
        Stages(progress, no_curve),
    )
    served = part.take_out(complete.ranker)
    return replace(served, live=replace(served.live, order=result.ranker.live.order))
