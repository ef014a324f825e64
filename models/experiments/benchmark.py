"""A data set evaluated through the served path: a release trained on the events before the test ranks the test."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anabranch.co_visit.table import CoVisitTable
from anabranch.input_files.times import as_iso
from anabranch.messages import Item
from anabranch.ranking.pipeline.feedback import NO_SLATE
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.release import DataWindow, Release, digests, write
from models.co_visit.text_neighbours import text_neighbours
from models.data.catalogue_join import join_catalogue
from models.data.datasets import leave_one_out, sessions
from models.data.event_log import NONE, EventLog, NotEnoughData
from models.evaluation.slices import Mask, cut_slices, new_users, repeats
from models.experiments.choices import TrainingRows
from models.metrics.ranking import Ranks
from models.offline.offline_ranker import (
    OfflineRanker,
    item_text_vectors,
    load_servable,
    neighbour_table,
    rank_events,
)
from models.pipeline.config import PipelineInputs, ReleaseCandidateConfig
from models.pipeline.release_candidate import ReleaseCandidate, make_release_candidate
from models.pipeline.release_folder import claimed_folder
from models.stages import Advance, Progress
from models.training_curves import Curve, no_curve


@dataclass(frozen=True)
class OfflineBenchmark:
    """A log with a test set: every event from `test_from` on whose user has an earlier event is predicted."""

    name: str
    log: EventLog
    items: list[Item]
    order_from: int
    """ms: events from here to the test train the list ranker."""
    test_from: int
    """ms"""
    config: ReleaseCandidateConfig = field(default_factory=ReleaseCandidateConfig)
    history_from: int | None = None
    """ms: nothing is trained on the events from here to the test; they are only in the histories of their users when
    the test begins. None: everything before the test is trained on."""

    @property
    def start(self) -> int:
        """Row of the first event of the test."""
        return int(np.searchsorted(self.log.ts, self.test_from))

    @property
    def trained_until(self) -> int:
        """ms: only events before it are trained on."""
        return self.test_from if self.history_from is None else self.history_from

    @property
    def train_log(self) -> EventLog:
        """The events that a release is trained on."""
        return self.log.split(self.trained_until)[0]

    def inputs(self, parent: Release | None = None) -> PipelineInputs:
        """What the pipeline trains a release on. With a `parent`, the events from the end of its own are new."""
        new_since_ms = 0 if parent is None else parent.manifest.window.gate_from
        return PipelineInputs(self.train_log, self.items, self.order_from, parent, new_since_ms)


@dataclass(frozen=True)
class Cost:
    """Resources that training a release used."""

    seconds: float
    """Wall time."""
    cpu_seconds: float
    """CPU time of all threads."""
    peak_bytes: int
    """Peak memory of the process since it started."""


@dataclass(frozen=True)
class BenchmarkRanks:
    """The M predicted events of a test, and the position of each event's item on the release's slates."""

    row: NDArray[np.int64]  # [M] rows of the benchmark's log
    user: NDArray[np.int32]  # [M]
    item: NDArray[np.int32]  # [M]
    ranks: Ranks  # [M, P] position of the event's item on the release's slate of each placement
    slices: dict[str, Mask]  # [M] each, see `cut_slices` and `new_users`; `new_items` had no event in training

    @property
    def rank(self) -> Ranks:
        """[M] on the first placement"""
        return self.ranks[:, 0]


def session_benchmark(folder: Path, config: ReleaseCandidateConfig) -> OfflineBenchmark:
    """Train and test sessions of a folder. The last twentieth of the training events trains the list ranker."""
    train, test, items = sessions(folder)
    log = train.followed_by(test)
    return OfflineBenchmark(folder.name, log, items, train.time_at(0.95), int(test.ts[0]), config)


def time_split_benchmark(
    name: str, events: EventLog, items: list[Item], share: float, config: ReleaseCandidateConfig
) -> OfflineBenchmark:
    """Split by time: the first `share` (0 to 1) of the events is for training, its last tenth for the list ranker.

    Raises `NotEnoughData` if one of the three parts would be empty.
    """
    if not len(events):
        raise NotEnoughData(f"{name} holds no events")
    log = join_catalogue(events, [item.item_id for item in items])
    order_from, test_from = log.time_at(0.9 * share), log.time_at(share)
    sizes = np.diff(np.searchsorted(log.ts, [log.ts[0], order_from, test_from, log.ts[-1] + 1])).tolist()
    if not all(sizes):
        span = f"{as_iso(int(log.ts[0]))} to {as_iso(int(log.ts[-1]))}"
        raise NotEnoughData(
            f"{name}: the {len(log):,} events lie from {span}, at too few different times to be divided: {sizes[0]:,} "
            f"to learn from, {sizes[1]:,} for the list ranker, {sizes[2]:,} to test. Give events of a longer time, or "
            "with times of day"
        )
    return OfflineBenchmark(name, log, items, order_from, test_from, config)


def leave_one_out_benchmark(
    folders: Sequence[Path], rows: TrainingRows, config: ReleaseCandidateConfig
) -> OfflineBenchmark:
    """Each user's last event is the test, predicted from all events before it.

    With the rows `train`, nothing is trained on the validation events, as in the papers' protocol: each user's last
    event for training trains the list ranker. With `train+validation` the validation events do, as in service.
    """
    data = leave_one_out(folders)
    name = "+".join(folder.name for folder in folders)
    benchmark = OfflineBenchmark(name, data.log, data.items, data.validation_from, data.test_from, config)
    if rows is TrainingRows.TRAIN:
        return replace(benchmark, order_from=data.last_from, history_from=data.validation_from)
    return benchmark


def validation_benchmark(benchmark: OfflineBenchmark) -> OfflineBenchmark:
    """A benchmark for tuning without the test: the list ranker's window is the test instead.

    The last twentieth of the remaining training events trains the list ranker. If events before the test are only
    history, these are the test, and training is as it was.
    """
    if benchmark.history_from is not None:
        return replace(
            benchmark,
            name=f"{benchmark.name} (validation)",
            log=benchmark.log.take(slice(0, benchmark.start)),
            test_from=benchmark.history_from,
            history_from=None,
        )
    train = benchmark.log.split(benchmark.order_from)[0]
    return replace(
        benchmark,
        name=f"{benchmark.name} (validation)",
        log=benchmark.train_log,
        order_from=train.time_at(0.95),
        test_from=benchmark.order_from,
    )


def with_new_items(benchmark: OfflineBenchmark, share: float) -> OfflineBenchmark:
    """The benchmark without the training events of a random `share` (0 to 1) of the items, which are new in the test.

    The draw does not depend on the random seed of training, so that trainings are compared on the same new items.
    """
    items = len(benchmark.items)
    new = np.random.default_rng(0).permutation(items)[: round(share * items)]
    hidden = np.isin(benchmark.log.item, new) & (benchmark.log.ts < benchmark.trained_until)
    return replace(benchmark, log=benchmark.log.take(~hidden))


def make_release(
    benchmark: OfflineBenchmark,
    folder: Path,
    cache: Path,
    progress: Progress = lambda stage, share: None,
    curve: Curve = no_curve,
    parent: Release | None = None,
) -> tuple[Release, ReleaseCandidate, Cost]:
    """Train a release on the events for training; it passes no gate. `cache` holds text vectors between runs.

    With a `parent`, the events that its own test began with, and later ones, are new. If training fails, `folder` is
    removed. Raises `UsageError` if it exists, and `NotEnoughData` if the events do not suffice.
    """
    started, cpu_started = time.perf_counter(), time.process_time()
    inputs = benchmark.inputs(parent)
    window = DataWindow(
        train_from=int(inputs.log.ts[0]),
        order_from=benchmark.order_from,
        gate_from=benchmark.trained_until,
        gate_to=benchmark.trained_until,
        events=len(inputs.log),
    )
    parent_id = None if parent is None else parent.manifest.id
    with claimed_folder(folder):
        candidate = make_release_candidate(
            inputs, folder, cache=cache, config=benchmark.config, progress=progress, curve=curve
        )
        manifest = candidate.manifest(folder.name, parent_id, int(time.time() * 1000), window, digests(folder))
        write(folder, manifest)
    cost = Cost(time.perf_counter() - started, time.process_time() - cpu_started, peak_bytes())
    return Release(folder, manifest), candidate, cost


def peak_bytes() -> int:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def published_co_visits(benchmark: OfflineBenchmark, release: Release, cache: Path) -> CoVisitTable:
    """The co-visit table of the events for training. Only a release's text vectors have a part in it."""
    config = benchmark.config
    texts = text_neighbours(config.co_visits, item_text_vectors(release, benchmark.items, cache, config.threads))
    return config.co_visit_model(texts).fit(benchmark.train_log).table(config.policy.neighbours)


def offline_ranker(
    benchmark: OfflineBenchmark, release: Release, cache: Path, table: CoVisitTable | None = None
) -> OfflineRanker:
    """The release as a ranker serves it when the test begins, with the `table` that is published by then.

    None: that of the events for training.
    """
    item_ids = ItemVocabulary()
    live = load_servable(release, item_ids, benchmark.items, cache, benchmark.config.threads)
    if table is None:
        table = published_co_visits(benchmark, release, cache)
    config = benchmark.config.policy
    served = release.manifest.policy
    policy = replace(
        config,
        exclude_seen=served.exclude_seen,
        allow_session_repeats=served.allow_session_repeats,
        co_visit_scoring=served.co_visit_scoring,
    )
    neighbours = neighbour_table(table, item_ids, benchmark.train_log, policy.neighbours)
    return OfflineRanker(live, neighbours, item_ids, policy, benchmark.config.layout)


def rank_test(benchmark: OfflineBenchmark, ranker: OfflineRanker, done: Advance = lambda n: None) -> BenchmarkRanks:
    """Rank the test. Calls `done(n)` after every n events of the test and of its users' past."""
    rows, start = rows_of_test_users(benchmark)
    log = benchmark.log.take(rows)
    ranks = rank_events(ranker, log, start, done).ranks
    predicted = np.flatnonzero((ranks[:, 0] != NO_SLATE) & (log.item[start:] != NONE))
    row, repeat = rows[start:][predicted], repeats(log)[start:][predicted]
    domains, train_log, item = [item.domain for item in benchmark.items], benchmark.train_log, benchmark.log.item[row]
    new_items = ~np.isin(item, train_log.item)
    return BenchmarkRanks(
        row=row,
        user=benchmark.log.user[row],
        item=item,
        ranks=ranks[predicted],
        slices=cut_slices(benchmark.log, len(train_log), row, repeat, domains)
        | {"new_items": new_items}
        | new_users(benchmark.log, row),
    )


def rows_of_test_users(benchmark: OfflineBenchmark) -> tuple[NDArray[np.int64], int]:
    """Rows of the log of the users with an event in the test, and how many of the rows come before the test."""
    in_test = np.zeros(len(benchmark.log.user_ids), np.bool_)
    in_test[benchmark.log.user[benchmark.start :]] = True
    rows = np.flatnonzero(in_test[benchmark.log.user])
    return rows, int(np.searchsorted(rows, benchmark.start))
