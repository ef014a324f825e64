"""One ranker with a catalogue of some size: its speed, how soon it sees a changed item, and the cost of a rebuild."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from anabranch.harness.bench.catalogue import PublishedItemVectors, add_noise, max_households
from anabranch.harness.bench.figures.statistics import percentiles, spread, spread_by_name
from anabranch.harness.bench.fixture import BenchFixture, FixtureOptions, open_fixture
from anabranch.harness.bench.ranker_process import RankerProcess
from anabranch.harness.bench.streaming import EventStreaming, repeat_forever
from anabranch.harness.bench.throughput import rank_in_segments
from anabranch.harness.environment.reconciliation import LoggedRanking
from anabranch.ranking.retrieval.ann_index import MAX_DELETED_SHARE
from anabranch.ranking.retrieval.item_index import REBUILD_AT_LEAST, rebuild_due
from anabranch.settings import Settings
from producers import completejourney

CHANGED_SHARE = 0.02
"""Share of the items that change at once. At least so many change that the index rebuilds its base."""


@dataclass(frozen=True)
class ItemsConfig:
    """How much is measured."""

    repeats: int
    events: int
    """Backlog ranked at full load, per repeat."""
    batch: int
    """The ranker's `batch_max`."""
    rate: float
    """Events per second while items change."""
    calm_s: float = 5.0
    """Seconds of stream before and after a change, and before the first measurement."""
    rebuild_s: float = 20.0
    """Seconds measured without changes, and with a rebuild, per repeat."""


def run(fixture: BenchFixture, item_count: int, config: ItemsConfig) -> dict[str, Any]:
    """Full load over a backlog; then a steady stream while items leave, come back, and many change at once."""
    vectors = PublishedItemVectors(fixture)
    vectors.fill_up(item_count)
    events = repeat_forever(fixture.testbed.ahead)
    fixture.commit_start()
    first_offsets = fixture.end_offsets()
    fixture.publish_next(events, config.repeats * config.events)
    rates = rank_in_segments(fixture, config.batch, first_offsets, config.repeats)
    with (
        fixture.rankers(batch_max=config.batch) as (ranker,),
        EventStreaming(fixture, events, config.rate),
    ):
        time.sleep(config.calm_s)
        changes = [_remove_and_restore(fixture, vectors, config.calm_s) for _ in range(config.repeats)]
        recall = ranker.probe.total("anabranch_index_recall")
        random = np.random.default_rng(0)
        latencies_ms = [
            _calm_and_rebuilding_ms(fixture, ranker, vectors, item_count, random, config.rebuild_s)
            for _ in range(config.repeats)
        ]
        resident_bytes = ranker.process.resident_bytes
    calm, rebuilding = ([percentiles(values) for values in column] for column in zip(*latencies_ms, strict=True))
    ratios = [with_rebuild["p99"] / without["p99"] for with_rebuild, without in zip(rebuilding, calm, strict=True)]
    return {
        "items": item_count,
        "events_per_second": spread(rates),
        "recall_at_100": recall,
        "gone_after_ms": spread([gone_ms for gone_ms, _ in changes]),
        "found_after_ms": spread([back_ms for _, back_ms in changes]),
        "calm_ms": spread_by_name(calm),
        "rebuilding_ms": spread_by_name(rebuilding),
        "p99_of_rebuilding_against_calm": spread(ratios),
        "resident_bytes": resident_bytes,
    }


def measure_sizes(
    settings: Settings, options: FixtureOptions, item_counts: Sequence[int], config: ItemsConfig
) -> dict[str, Any]:
    """`run` on a new fixture for each number of items; `options.items` is the number of real ones there are."""
    purchases = completejourney.purchases(options.random_seed)
    figures, machine = [], {}
    for item_count in item_counts:
        households = min(options.households, max_households(purchases, item_count, options.random_seed))
        fitting = replace(options, households=households, items=min(item_count, options.items))
        with open_fixture(settings, fitting) as fixture:
            figures.append(run(fixture, item_count, config))
            machine = fixture.machine
    return {"what": "one ranker, by the size of its catalogue", "machine": machine, "sizes": figures}


def _latencies_ms(fixture: BenchFixture, seconds: float) -> list[float]:
    first_offsets = fixture.end_offsets()
    time.sleep(seconds)
    return [latency_ms for _, latency_ms in fixture.latencies_ms(first_offsets)]


def _remove_and_restore(fixture: BenchFixture, vectors: PublishedItemVectors, calm_s: float) -> tuple[float, float]:
    """Remove the item that is recommended most from the catalogue, and put it back.

    Returns the milliseconds until the last ranking with the item, and until the first that has it again.
    """
    first_offsets = fixture.end_offsets()
    time.sleep(calm_s)
    item_id = _most_recommended(fixture.read_back(first_offsets)[1])
    first_offsets = fixture.end_offsets()
    removed_ms = 1000 * time.time()
    vectors.publish([(item_id, None)])
    time.sleep(calm_s)
    restored_ms = 1000 * time.time()
    vectors.publish([(item_id, vectors.by_item[item_id])])
    time.sleep(calm_s)
    rankings = fixture.read_back(first_offsets)[1]
    appended_ms = sorted(ranking.appended_ms for ranking in rankings if item_id in _slate_items(ranking))
    last_before = max((ms for ms in appended_ms if ms < restored_ms), default=removed_ms)
    first_after = min((ms for ms in appended_ms if ms >= restored_ms), default=float("inf"))
    return max(0.0, last_before - removed_ms), first_after - restored_ms


def _most_recommended(rankings: Sequence[LoggedRanking]) -> str:
    return Counter(item_id for ranking in rankings for item_id in _slate_items(ranking)).most_common(1)[0][0]


def _slate_items(ranking: LoggedRanking) -> list[str]:
    return [item.item_id for item in ranking.ranking.slate]


def _calm_and_rebuilding_ms(
    fixture: BenchFixture,
    ranker: RankerProcess,
    vectors: PublishedItemVectors,
    item_count: int,
    random: np.random.Generator,
    seconds: float,
) -> tuple[list[float], list[float]]:
    """Latencies while nothing changes, and from a change of many items on; then waits for the end of the rebuild."""
    calm = _latencies_ms(fixture, seconds)
    _change_many(vectors, item_count, random)
    rebuilding = _latencies_ms(fixture, seconds)
    max_base_size = item_count / (1 - MAX_DELETED_SHARE)  # of the index's base, with its deleted entries
    fixture.wait_until(
        lambda: not rebuild_due(ranker.probe.total("anabranch_index_unfolded"), max_base_size),
        "the ranker rebuilds its index",
    )
    return calm, rebuilding


def _change_many(vectors: PublishedItemVectors, item_count: int, random: np.random.Generator) -> None:
    """Change the vectors of enough real items, each a little, that the index is rebuilt."""
    ids = list(islice(vectors.by_item, max(int(CHANGED_SHARE * item_count), 2 * REBUILD_AT_LEAST)))
    changed = add_noise(np.stack([vectors.by_item[item_id] for item_id in ids]), random)
    vectors.publish(zip(ids, changed, strict=True))
