"""Period after period: predict the next, then learn it; by ways that differ in what they keep and what they cost.

Mi, Lin and Faltings, ADER: Adaptively Distilled Exemplar Replay Towards Continual Learning for Session-based
Recommendation, RecSys 2020 (the protocol: an event is predicted if its item occurred in an earlier period).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from anabranch.messages import Item
from anabranch.release import Release
from models.data.event_log import EventLog
from models.evaluation.seed_models import moments_before, seed_ranks
from models.experiments.benchmark import Benchmark, Cost, Tested, make_release, peak_bytes, predict, serve
from models.pipeline.candidate import CandidateConfig
from models.seeds.co_visit import CoVisitSeedModel

Way = Literal["shared", "retrained", "fine_tuned", "co_visit"]
NEW_SHARE = 0.8
"""Of the newest period's events, so many teach an encoder that has no parent before the order learns from the rest."""


@dataclass(frozen=True)
class Period:
    """One period, predicted by what was learned of those before it."""

    way: Way
    number: int
    tested: Tested
    cost: Cost
    """Of learning the period before."""


def weekly(
    periods: Sequence[EventLog],
    items: list[Item],
    config: CandidateConfig,
    way: Way,
    folder: Path,
    cache: Path,
    last: int | None = None,
    stage: Callable[[str, float], None] = lambda stage, share: None,
) -> Iterator[Period]:
    """Learn period 0, predict 1, learn 1, and so on, up to predicting period `last`.

    shared: a child of the last release, by all strategies and some of the past. fine_tuned: a child on the new period
    alone. retrained: a release from scratch on all periods so far. co_visit: no release, the table of all periods so
    far alone.
    """
    parent: Release | None = None
    log = periods[0]
    known = np.zeros(len(items), np.bool_)
    for number in range(1, len(periods) if last is None else last + 1):
        newest, coming = periods[number - 1], periods[number]
        known[newest.item] = True
        benchmark = Benchmark(
            name=f"{way} {number:02d}",
            log=log.followed_by(coming.take(known[coming.item])),
            items=items,
            order_from=newest.time_at(NEW_SHARE) if parent is None else int(newest.ts[0]),
            test_from=int(coming.ts[0]),
            config=config,
        )
        if way == "co_visit":
            yield _by_table(benchmark, number)
            log = log.followed_by(coming)
            continue
        release, _, cost = make_release(
            way_of(benchmark, way),
            folder / f"{way}-{number:02d}",
            cache,
            stage,
            parent=parent,
            new_since_ms=int(newest.ts[0]),
        )
        yield Period(way, number, predict(benchmark, serve(benchmark, release, cache)), cost)
        parent, log = None if way == "retrained" else release, log.followed_by(coming)


def _by_table(benchmark: Benchmark, number: int) -> Period:
    started, cpu = time.perf_counter(), time.process_time()
    seed = CoVisitSeedModel(benchmark.config.co_visits)
    seed.fit(benchmark.learned, np.zeros((len(benchmark.items), 1), np.float32), lambda share: None)
    cost = Cost(time.perf_counter() - started, time.process_time() - cpu, peak_bytes())
    test = benchmark.log.take(slice(benchmark.start, None))
    rows = np.flatnonzero(test.previous() >= 0)
    policy = benchmark.config.policy
    ranks = seed_ranks(seed, moments_before(test, rows, policy), test.item[rows], policy.slate)
    return Period("co_visit", number, Tested(benchmark.start + rows, test.user[rows], test.item[rows], ranks, {}), cost)


def way_of(benchmark: Benchmark, way: Way) -> Benchmark:
    """The benchmark, its release made the given way."""
    config = benchmark.config
    if way == "shared":
        return benchmark
    training = replace(config.training, replay=0.0) if way == "fine_tuned" else config.training
    return replace(benchmark, config=replace(config, training=training, strategies=()))
