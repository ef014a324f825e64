"""How long rankings pause when a new release goes live under load, and whether a partition mixes two releases."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec

from anabranch import release
from anabranch.harness.bench.figures.statistics import percentiles, spread
from anabranch.harness.bench.fixture import BenchFixture
from anabranch.harness.bench.ranker_process import RankerProcess
from anabranch.harness.bench.streaming import EventStreaming, repeat_forever
from anabranch.harness.environment.reconciliation import LoggedRanking


@dataclass(frozen=True)
class SwapConfig:
    """How much is measured."""

    repeats: int
    rate: float
    """Events per second."""
    calm_s: float = 4.0
    """Seconds of stream before a swap and after it, and before the first measurement."""


def run(fixture: BenchFixture, config: SwapConfig) -> dict[str, Any]:
    """One ranker and a steady stream; once per repeat a copy of the release goes live under another name."""
    calm_ms: list[float] = []
    pauses_ms: list[float] = []
    mixed = 0
    with (
        fixture.rankers() as (ranker,),
        EventStreaming(fixture, repeat_forever(fixture.testbed.ahead), config.rate),
    ):
        time.sleep(config.calm_s)  # a ranker that has just started is slower
        for number in range(1, config.repeats + 1):
            calm_ms += _calm_latencies_ms(fixture, config.calm_s)
            first_offsets = fixture.end_offsets()
            _swap(fixture, ranker, number)
            time.sleep(config.calm_s)
            pauses_ms.append(max(latency_ms for _, latency_ms in fixture.latencies_ms(first_offsets)))
            rankings = sorted(fixture.read_back(first_offsets)[1], key=_partition)
            mixed += sum(mixes_releases(of_partition) for _, of_partition in groupby(rankings, key=_partition))
    calm = percentiles(calm_ms)
    return {
        "what": "largest latency in ms while a release was swapped",
        "machine": fixture.machine,
        "plan": {"repeats": config.repeats, "rate": config.rate},
        "pause_ms": spread(pauses_ms),
        "without_swap_ms": calm,
        "pause_against_p99_without": spread([pause_ms / calm["p99"] for pause_ms in pauses_ms]),
        "partitions_that_mixed_releases": mixed,
    }


def mixes_releases(rankings: Iterable[LoggedRanking]) -> bool:
    """Whether the rankings of a partition, in order of offset, return to a release that they had left."""
    releases = [name for name, _ in groupby(ranking.ranking.release for ranking in rankings)]
    return len(releases) > len(set(releases))


def _calm_latencies_ms(fixture: BenchFixture, seconds: float) -> list[float]:
    first_offsets = fixture.end_offsets()
    time.sleep(seconds)
    return [latency_ms for _, latency_ms in fixture.latencies_ms(first_offsets)]


def _swap(fixture: BenchFixture, ranker: RankerProcess, number: int) -> None:
    """Announce a copy of the newest release, and wait until the ranker serves it."""
    old = release.open_release(release.folders(fixture.settings.releases_dir)[-1])
    name = f"{old.manifest.id.split('-copy-')[0]}-copy-{number:03d}"
    folder = fixture.settings.releases_dir / name
    shutil.copytree(old.folder, folder)
    release.write(folder, msgspec.structs.replace(old.manifest, id=name, parent=old.manifest.id))
    swaps = ranker.probe.total("anabranch_release_swaps_total")
    fixture.testbed.announce(name, parent=old.manifest.id)
    fixture.wait_until(
        lambda: ranker.probe.total("anabranch_release_swaps_total") > swaps, "the ranker swaps the release"
    )


def _partition(ranking: LoggedRanking) -> int:
    return ranking.event_position[0]
