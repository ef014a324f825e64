"""A data set measured through the served path: a release is made of what comes before the test, and ranks the test."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import Item
from anabranch.ranking.pipeline.rank import NO_SLATE
from anabranch.ranking.vocabulary import ItemIds
from anabranch.release import DataWindow, Release, digests, write
from models.co_visit.model import CoVisitModel
from models.data.datasets import leave_one_out, sessions
from models.data.event_log import EventLog
from models.evaluation.slices import Mask, cut_slices, repeats
from models.metrics.ranking import Ranks
from models.offline.offline_ranker import (
    OfflineRanker,
    item_text_vectors,
    load_servable,
    neighbour_table,
    rank_events,
)
from models.pipeline.candidate import CandidateConfig, CandidateReport, make_candidate
from models.stages import Advance, Progress
from models.training_curves import Curve, no_curve


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
class Cost:
    """What it took to make a release."""

    seconds: float
    cpu_seconds: float
    """All threads together."""
    peak_bytes: int
    """Of the process's memory, whatever took it."""


@dataclass(frozen=True)
class Tested:
    """The M events of a test that are predicted, and where their items stood on the release's slates."""

    row: NDArray[np.int64]  # [M], of the benchmark's log
    user: NDArray[np.int32]  # [M]
    item: NDArray[np.int32]  # [M]
    rank: Ranks  # [M]
    slices: dict[str, Mask]  # [M] each; an event is a repeat where its user had the item before


def of_sessions(folder: Path, config: CandidateConfig) -> Benchmark:
    """The last twentieth of the training sessions teaches the order first."""
    train, test, items = sessions(folder)
    log = train.followed_by(test)
    return Benchmark(folder.name, log, items, train.time_at(0.95), int(test.ts[0]), config)


def of_events(name: str, events: EventLog, items: list[Item], share: float, config: CandidateConfig) -> Benchmark:
    """Events with time stamps, cut by time: `share` of them to learn from, the last tenth of that for the order."""
    log = events.renumbered([item.item_id for item in items])
    return Benchmark(name, log, items, log.time_at(0.9 * share), log.time_at(share), config)


def of_leave_one_out(folders: Sequence[Path], config: CandidateConfig) -> Benchmark:
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


def make_release(
    benchmark: Benchmark,
    folder: Path,
    cache: Path,
    progress: Progress = lambda stage, share: None,
    parent: Release | None = None,
    new_since_ms: int = 0,
    curve: Curve = no_curve,
) -> tuple[Release, CandidateReport, Cost]:
    """A release of what comes before the test; no gate has seen it. Text vectors are kept in `cache`."""
    started, cpu = time.perf_counter(), time.process_time()
    learned = benchmark.learned
    report = make_candidate(
        learned,
        benchmark.items,
        parent,
        folder,
        new_since_ms=new_since_ms,
        order_from=benchmark.order_from,
        cache=cache,
        config=benchmark.config,
        progress=progress,
        curve=curve,
    )
    window = DataWindow(
        train_from=int(learned.ts[0]),
        order_from=benchmark.order_from,
        gate_from=benchmark.test_from,
        gate_to=benchmark.test_from,
        events=len(learned),
    )
    of = None if parent is None else parent.manifest.id
    manifest = report.manifest(folder.name, of, int(time.time() * 1000), window, digests(folder))
    write(folder, manifest)
    cost = Cost(time.perf_counter() - started, time.process_time() - cpu, peak_bytes())
    return Release(folder, manifest), report, cost


def peak_bytes() -> int:
    """The most memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def serve(benchmark: Benchmark, release: Release, cache: Path) -> OfflineRanker:
    """The release as a ranker holds it when the test begins."""
    item_ids = ItemIds()
    live = load_servable(release, item_ids, benchmark.items, cache, benchmark.config.threads)
    learned = benchmark.learned
    texts = item_text_vectors(release, benchmark.items, cache, benchmark.config.threads)
    policy = benchmark.config.policy
    table = CoVisitModel.fit(learned, benchmark.config.co_visits).table(policy.neighbours, texts)
    return OfflineRanker(live, neighbour_table(table, item_ids, learned, policy.neighbours), item_ids, policy)


def predict(benchmark: Benchmark, ranker: OfflineRanker, done: Advance = lambda n: None) -> Tested:
    """Rank the test. `done(n)` is told of every n events of it, and of its users' past."""
    rows, start = tested_users(benchmark)
    log = benchmark.log.take(rows)
    rank = rank_events(ranker, log, start, done).rank
    told = np.flatnonzero(rank != NO_SLATE)
    row, repeat = rows[start:][told], repeats(log)[start:][told]
    return Tested(
        row=row,
        user=benchmark.log.user[row],
        item=benchmark.log.item[row],
        rank=rank[told],
        slices=cut_slices(benchmark.log, benchmark.start, row, repeat, [item.domain for item in benchmark.items]),
    )


def tested_users(benchmark: Benchmark) -> tuple[NDArray[np.int64], int]:
    """Rows of the log of those who have an event in the test, and how many of the rows come before it."""
    tested = np.zeros(len(benchmark.log.user_ids), np.bool_)
    tested[benchmark.log.user[benchmark.start :]] = True
    rows = np.flatnonzero(tested[benchmark.log.user])
    return rows, int(np.searchsorted(rows, benchmark.start))
