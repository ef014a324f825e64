"""How a ranker bears a catalogue of some size: its speed, and how soon a change of an item is seen, while it serves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from anabranch.harness.bench.catalogue import ItemVectors, beside
from anabranch.harness.bench.fixture import Ranker, Stand, percentiles, spread
from anabranch.harness.bench.streaming import Streaming, without_end
from anabranch.harness.bench.throughput import stretches
from anabranch.harness.environment.reconciliation import Answer
from anabranch.ranking.retrieval.ann_index import MOST_DEAD
from anabranch.ranking.retrieval.item_index import REBUILD_AT_LEAST, rebuild_due

CALM_S = 5.0
"""Stream before a change and after it, and before anything counts."""
REBUILD_S = 20.0
"""Of calm, and of a rebuild and the changes that wait for it, each time."""
CHANGED = 0.02
"""Share of the items that change at once; so many, in any case, that the index rebuilds its base."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    repeats: int
    events: int
    """Backlog that is ranked at full speed, for each repeat."""
    batch: int
    """Events a ranker takes at once, at most."""
    rate: float
    """Events a second while items change."""


def run(stand: Stand, items: int, plan: Plan) -> dict[str, Any]:
    """Full speed over a backlog; then a steady stream while items leave, come back, and many change at once."""
    vectors = ItemVectors(stand)
    vectors.fill_up(items)
    ahead = without_end(stand.bed.ahead)
    stand.begin()
    since = stand.ends()
    stand.publish(ahead, plan.repeats * plan.events)
    speeds = stretches(stand, plan.batch, since, plan.repeats)
    with stand.ranking(batch_max=plan.batch) as (ranker,), Streaming(stand, ahead, plan.rate):
        time.sleep(CALM_S)
        changes = [_leave_and_return(stand, vectors) for _ in range(plan.repeats)]
        recall = ranker.value("anabranch_index_recall")
        random = np.random.default_rng(0)
        waits = [_calm_and_rebuilding(stand, ranker, vectors, items, random) for _ in range(plan.repeats)]
        resident = ranker.resident_bytes
    calm, rebuilding = ([percentiles(of_one) for of_one in column] for column in zip(*waits, strict=True))
    ratios = [one["p99"] / other["p99"] for one, other in zip(rebuilding, calm, strict=True)]
    return {
        "items": items,
        "events_per_second": spread(speeds),
        "recall_at_100": recall,
        "gone_after_ms": spread([gone for gone, _ in changes]),
        "found_after_ms": spread([found for _, found in changes]),
        "calm_ms": {quantile: spread([one[quantile] for one in calm]) for quantile in calm[0]},
        "rebuilding_ms": {quantile: spread([one[quantile] for one in rebuilding]) for quantile in calm[0]},
        "p99_of_rebuilding_against_calm": spread(ratios),
        "resident_bytes": resident,
    }


def _waits(stand: Stand, seconds: float) -> list[float]:
    since = stand.ends()
    time.sleep(seconds)
    return [waited for _, waited in stand.waits(since)]


def _leave_and_return(stand: Stand, vectors: ItemVectors) -> tuple[float, float]:
    """Take the item that is shown most out of the catalogue, and put it back.

    Milliseconds until the last ranking that has it, and until the first that has it again.
    """
    since = stand.ends()
    time.sleep(CALM_S)
    item_id = _most_shown(stand.answered(since)[1])
    since = stand.ends()
    left = 1000 * time.time()
    vectors.publish([(item_id, None)])
    time.sleep(CALM_S)
    returned = 1000 * time.time()
    vectors.publish([(item_id, vectors.of[item_id])])
    time.sleep(CALM_S)
    shown = sorted(answer.appended for answer in stand.answered(since)[1] if item_id in _shown(answer))
    gone = max((at for at in shown if at < returned), default=left)
    found = min((at for at in shown if at >= returned), default=float("inf"))
    return max(0.0, gone - left), found - returned


def _most_shown(answers: Sequence[Answer]) -> str:
    return Counter(item_id for answer in answers for item_id in _shown(answer)).most_common(1)[0][0]


def _shown(answer: Answer) -> list[str]:
    return [item.item_id for item in answer.ranking.slate]


def _calm_and_rebuilding(
    stand: Stand, ranker: Ranker, vectors: ItemVectors, items: int, random: np.random.Generator
) -> tuple[list[float], list[float]]:
    """What rankings wait while nothing changes, and from a change of many items on; then the end of the rebuild."""
    calm = _waits(stand, REBUILD_S)
    _change_many(vectors, items, random)
    rebuilding = _waits(stand, REBUILD_S)
    longest = items / (1 - MOST_DEAD)  # that a base is, with what is dead in it
    stand.bed.wait(
        lambda: not rebuild_due(ranker.value("anabranch_index_unfolded"), longest),
        "the index to be rebuilt",
        meanwhile=stand.bed.processes.check,
    )
    return calm, rebuilding


def _change_many(vectors: ItemVectors, items: int, random: np.random.Generator) -> None:
    """Move some of the real items a little: enough of them for a rebuild."""
    ids = list(islice(vectors.of, max(int(CHANGED * items), 2 * REBUILD_AT_LEAST)))
    vectors.publish(zip(ids, beside(np.stack([vectors.of[one] for one in ids]), random), strict=True))
