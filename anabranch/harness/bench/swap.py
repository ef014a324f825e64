"""How long rankings stand still when a release is swapped under load, and whether any partition mixes two."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec

from anabranch import release
from anabranch.harness.bench.fixture import Ranker, Stand, percentiles, spread
from anabranch.harness.bench.streaming import Streaming, without_end
from anabranch.harness.environment.reconciliation import Answer

CALM_S = 4.0
"""Stream before a swap, and after it."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    repeats: int
    rate: float


def run(stand: Stand, plan: Plan) -> dict[str, Any]:
    """One ranker and a steady stream; again and again a copy of the release goes live under another name."""
    calm: list[float] = []
    pauses: list[float] = []
    mixed = 0
    with stand.ranking() as (ranker,), Streaming(stand, without_end(stand.bed.ahead), plan.rate):
        time.sleep(CALM_S)  # who has just started is not what is measured
        for number in range(1, plan.repeats + 1):
            calm += _waits_of_calm(stand)
            since = stand.ends()
            _swap(stand, ranker, number)
            pauses.append(max(waited for _, waited in stand.waits(since)))
            answers = sorted(stand.answered(since)[1], key=_partition)
            mixed += sum(_mixes(of_one) for _, of_one in groupby(answers, key=_partition))
    return {
        "what": "the longest that a ranking waited while a release was swapped, in ms",
        "machine": stand.machine,
        "plan": {"repeats": plan.repeats, "rate": plan.rate},
        "pause_ms": spread(pauses),
        "without_swap_ms": percentiles(calm),
        "pause_against_p99_without": spread([pause / percentiles(calm)["p99"] for pause in pauses]),
        "partitions_that_mixed_releases": mixed,
    }


def _waits_of_calm(stand: Stand) -> list[float]:
    since = stand.ends()
    time.sleep(CALM_S)
    return [waited for _, waited in stand.waits(since)]


def _swap(stand: Stand, ranker: Ranker, number: int) -> None:
    """Announce a copy of the newest release, wait until it ranks, and a little."""
    old = release.opened(release.folders(stand.settings.releases_dir)[-1])
    name = f"{old.manifest.id.split('-copy-')[0]}-copy-{number:03d}"
    folder = stand.settings.releases_dir / name
    shutil.copytree(old.folder, folder)
    release.write(folder, msgspec.structs.replace(old.manifest, id=name, parent=old.manifest.id))
    swaps = ranker.value("anabranch_release_swaps_total")
    stand.bed.announce(name, parent=old.manifest.id)
    stand.bed.wait(
        lambda: ranker.value("anabranch_release_swaps_total") > swaps,
        "the ranker to swap",
        meanwhile=stand.bed.processes.check,
    )
    time.sleep(CALM_S)


def _partition(answer: Answer) -> int:
    return answer.place[0]


def _mixes(answers: Iterable[Answer]) -> bool:
    """Whether a partition's answers come back to a release they had left."""
    releases = [name for name, _ in groupby(answer.ranking.release for answer in answers)]
    return len(releases) > len(set(releases))
