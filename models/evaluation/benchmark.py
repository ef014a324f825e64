"""A data set measured through the served path: a release is made of what comes before the test, and ranks the test."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import Item
from anabranch.ranking.core import NO_SLATE
from anabranch.ranking.item_ids import ItemIds
from anabranch.release import DataWindow, Manifest, Release, digests, write
from models.candidate import CandidateConfig, CandidateReport, Progress, make_candidate
from models.datasets import leave_one_out, sessions
from models.evaluation.metrics import Ranks
from models.evaluation.protocols import Ranker, load, show
from models.lists import neighbour_table
from models.log import EventLog
from models.seeds.co_visit import CoVisit

COLD = 5
"""An item with at most so many training events is cold."""


@dataclass(frozen=True)
class Benchmark:
    """What is learned from, and what is predicted: every event from `test_from` on whose user has an earlier one."""

    name: str
    log: EventLog
    items: list[Item]
    order_from: int
    """ms: what comes from here to the test teaches the order first."""
    test_from: int
    """ms"""
    config: CandidateConfig = field(default_factory=CandidateConfig)

    @property
    def start(self) -> int:
        """Row of the first event of the test."""
        return int(np.searchsorted(self.log.ts, self.test_from))

    @property
    def learned(self) -> EventLog:
        """The events before the test."""
        return self.log.take(slice(0, self.start))


@dataclass(frozen=True)
class Measured:
    """Where the items of M test events stood, and what it cost."""

    user: NDArray[np.int32]  # [M]
    item: NDArray[np.int32]  # [M]
    rank: Ranks  # [M]
    training_events: NDArray[np.int64]  # [M], of the item
    domain: NDArray[np.str_]  # [M], of the item, "" where there is one domain
    report: CandidateReport
    release: Release
    cpu_seconds: float
    """Of the release's making, all threads together."""
    seconds: float
    peak_bytes: int
    """Of the process's memory so far."""


def of_sessions(folder: Path, config: CandidateConfig) -> Benchmark:
    """The last twentieth of the training sessions teaches the order first."""
    train, test, items = sessions(folder)
    log = train.followed_by(test)
    return Benchmark(folder.name, log, items, train.time_at(0.95), int(test.ts[0]), config)


def of_leave_one_out(folders: list[Path], config: CandidateConfig) -> Benchmark:
    """The users' validation events teach the order first."""
    data = leave_one_out(folders)
    name = "+".join(folder.name for folder in folders)
    return Benchmark(name, data.log, data.items, data.validation_from, data.test_from, config)


def without_test(benchmark: Benchmark) -> Benchmark:
    """The same a step earlier, for tuning: what would have taught the order is the test, what comes before is cut anew.

    A twentieth of what is left teaches the order.
    """
    learned = benchmark.log.split(benchmark.order_from)[0]
    return replace(
        benchmark,
        name=f"{benchmark.name} (validation)",
        log=benchmark.learned,
        order_from=learned.time_at(0.95),
        test_from=benchmark.order_from,
    )


def measure(
    benchmark: Benchmark, folder: Path, cache: Path, progress: Progress = lambda stage, share: None
) -> Measured:
    """Make a release in `folder` and rank the test with it. Text vectors are kept in `cache`."""
    started, cpu = time.perf_counter(), time.process_time()
    release, report = make_release(benchmark, folder, cache, progress)
    cost = time.perf_counter() - started, time.process_time() - cpu
    ranker = serve(benchmark, release, cache)
    return ranked(benchmark, ranker, report, release, cost)


def make_release(
    benchmark: Benchmark, folder: Path, cache: Path, progress: Progress = lambda stage, share: None
) -> tuple[Release, CandidateReport]:
    """A release of what comes before the test; no gate has seen it."""
    learned = benchmark.learned
    report = make_candidate(
        learned,
        benchmark.items,
        None,
        folder,
        order_from=benchmark.order_from,
        cache=cache,
        config=benchmark.config,
        progress=progress,
    )
    manifest = Manifest(
        id=folder.name,
        parent=None,
        created=int(time.time() * 1000),
        dims=report.dims,
        state_dims=report.state_dims,
        text_dims=report.text_dims,
        features=list(report.features),
        seeds=list(report.seeds),
        strategy=report.strategy | {"measured": report.measured, "seconds": report.seconds},
        window=DataWindow(
            train_from=int(learned.ts[0]),
            order_from=benchmark.order_from,
            gate_from=benchmark.test_from,
            gate_to=benchmark.test_from,
            events=len(learned),
        ),
        parity=report.parity,
        gate={},
        files=digests(folder),
    )
    write(folder, manifest)
    return Release(folder, manifest), report


def serve(benchmark: Benchmark, release: Release, cache: Path) -> Ranker:
    """The release as a ranker holds it when the test begins."""
    item_ids = ItemIds()
    live = load(release, item_ids, benchmark.items, cache, benchmark.config.threads)
    learned = benchmark.learned
    table = CoVisit.fit(learned, benchmark.config.co_visits).table()
    return Ranker(live, neighbour_table(table, item_ids, learned), item_ids, benchmark.config.policy)


def ranked(
    benchmark: Benchmark, ranker: Ranker, report: CandidateReport, release: Release, cost: tuple[float, float]
) -> Measured:
    """Rank the test."""
    log, start = _of_tested_users(benchmark)
    rank = show(ranker, log, start).rank
    told = rank != NO_SLATE
    item = log.item[start:][told]
    domains = np.array([one.domain or "" for one in benchmark.items])
    return Measured(
        user=log.user[start:][told],
        item=item,
        rank=rank[told],
        training_events=np.bincount(benchmark.learned.item, minlength=len(benchmark.items))[item],
        domain=domains[item],
        report=report,
        release=release,
        cpu_seconds=cost[1],
        seconds=cost[0],
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _of_tested_users(benchmark: Benchmark) -> tuple[EventLog, int]:
    """The log without those who have no event in the test, and the row where the test begins in it."""
    tested = np.zeros(len(benchmark.log.user_ids), np.bool_)
    tested[benchmark.log.user[benchmark.start :]] = True
    keep = tested[benchmark.log.user]
    return benchmark.log.take(keep), int(keep[: benchmark.start].sum())
