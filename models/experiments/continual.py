"""Continual learning, period by period: predict the next period, then train on it, by methods that differ in cost.

Mi, Lin and Faltings, ADER: Adaptively Distilled Exemplar Replay Towards Continual Learning for Session-based
Recommendation, RecSys 2020 (the protocol: an event is predicted if its item occurred in an earlier period).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from anabranch.input_files.times import as_iso
from anabranch.messages import Item
from anabranch.release import Release
from models.data.datasets import WEEK_MS
from models.data.event_log import NONE, EventLog, NotEnoughData
from models.data.excluded_items import SlateRules
from models.evaluation.seed_model_ranks import prediction_points_before, seed_ranks
from models.experiments.benchmark import (
    BenchmarkRanks,
    Cost,
    OfflineBenchmark,
    make_release,
    offline_ranker,
    peak_bytes,
    published_co_visits,
    rank_test,
)
from models.metrics.ranking import Ranks
from models.pipeline.config import ReleaseCandidateConfig

TrainingMethod = Literal["shared", "retrained", "fine_tuned", "co_visit"]
STALE_PERIODS = (1, 2, 4, 8)
"""How old the releases are with which a re-share is compared."""
ENCODER_SHARE = 0.8
"""Of the first period this share trains the encoder, and the rest the list ranker, as there is no earlier period. Later
on, the whole newest period trains the list ranker, whichever the method: none has a shorter window than another."""


@dataclass(frozen=True)
class Period:
    """One period, predicted after training on the periods before it."""

    method: TrainingMethod
    number: int
    ranks: BenchmarkRanks
    cost: Cost
    """Of training on the period before."""
    by_stale_release: Mapping[int, Ranks] = field(default_factory=dict)
    """Age in periods → ranks [M] of the same events by a release that so many periods did not train. It reads the
    newest co-visit table, as it would where it serves."""


def run_periods(
    periods: Sequence[EventLog],
    items: list[Item],
    config: ReleaseCandidateConfig,
    method: TrainingMethod,
    folder: Path,
    cache: Path,
) -> Iterator[Period]:
    """Train on period 0, predict 1, train on 1, and so on, up to predicting the last period.

    shared: a child of the last release, with all strategies and replay of old events. fine_tuned: a child trained on
    the new period alone. retrained: a release without a parent, from all periods so far; its encoder learns the newest
    period after the list ranker did, as those of the children do. co_visit: no release, only the co-visit table of all
    periods so far. With sharing, each period is predicted too by the releases that are `STALE_PERIODS` old. Releases
    are written into `folder`; `cache` holds text vectors.
    """
    releases: list[Release] = []
    log = periods[0]
    item_occurred = np.zeros(len(items), np.bool_)
    for number in range(1, len(periods)):
        newest, coming = periods[number - 1], periods[number]
        item_occurred[newest.with_items().item] = True
        benchmark = OfflineBenchmark(
            name=f"{method} {number:02d}",
            log=log.followed_by(coming.take((coming.item == NONE) | item_occurred[coming.item])),
            items=items,
            order_from=list_ranker_from(newest, number),
            test_from=int(coming.ts[0]),
            config=configure(config, method),
        )
        log = log.followed_by(coming)
        if method == "co_visit":
            yield _predict_by_co_visits(benchmark, number)
            continue
        parent = releases[-1] if releases and method != "retrained" else None
        release, _, cost = make_release(benchmark, folder / f"{method}-{number:02d}", cache, parent=parent)
        releases.append(release)
        ages = [age for age in STALE_PERIODS if method == "shared" and age < len(releases)]
        table = published_co_visits(benchmark, release, cache)
        current, *stale = [
            rank_test(benchmark, offline_ranker(benchmark, releases[-1 - age], cache, table)) for age in (0, *ages)
        ]
        by_age = {age: ranks.rank for age, ranks in zip(ages, stale, strict=True)}
        yield Period(method, number, current, cost, by_age)


def weeks_of(log: EventLog, share: float) -> list[EventLog]:
    """The first `share` (0 to 1) of a log's events, then the weeks after it; a week that is not over is left out.

    Raises `NotEnoughData` if that leaves no week.
    """
    first_end, end = log.time_at(share), int(log.ts[-1]) + 1
    starts = [*range(first_end, end - WEEK_MS + 1, WEEK_MS)]
    weeks = [log.between(start, start + WEEK_MS) for start in starts]
    if not any(map(len, weeks)):
        raise NotEnoughData(
            f"after {as_iso(first_end)}, the first {share:.0%} of the events, there is no whole week with events until "
            f"{as_iso(end)}: give events of a longer time, or a smaller --share"
        )
    return [log.split(first_end)[0], *(week for week in weeks if len(week))]


def list_ranker_from(newest: EventLog, number: int) -> int:
    """Time (UTC ms) from which the newest period trains the list ranker that predicts period `number`."""
    return newest.time_at(ENCODER_SHARE) if number == 1 else int(newest.ts[0])


def configure(config: ReleaseCandidateConfig, method: TrainingMethod) -> ReleaseCandidateConfig:
    """The configuration of a training method: only `shared` uses strategies, and `fine_tuned` replays nothing."""
    if method == "shared":
        return config
    training = replace(config.training, replay=0.0) if method == "fine_tuned" else config.training
    return replace(config, training=training, strategies=())


def _predict_by_co_visits(benchmark: OfflineBenchmark, number: int) -> Period:
    started, cpu_started = time.perf_counter(), time.process_time()
    model = benchmark.config.co_visit_seed_model()
    model.fit(benchmark.train_log, np.zeros((len(benchmark.items), 1), np.float32), lambda share: None)
    cost = Cost(time.perf_counter() - started, time.process_time() - cpu_started, peak_bytes())
    test = benchmark.log.take(slice(benchmark.start, None))
    rows = np.flatnonzero(test.previous() >= 0)
    rules = SlateRules(benchmark.config.policy, benchmark.config.layout)
    rank = seed_ranks(model, prediction_points_before(test, rows, rules), test.item[rows], rules.slate)
    ranks = BenchmarkRanks(benchmark.start + rows, test.user[rows], test.item[rows], rank[:, None], {})
    return Period("co_visit", number, ranks, cost)
