"""How long partitions stand still when the group changes: those that move, and those that stay."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from anabranch.harness.bench.fixture import Ranker, Stand, percentiles, spread
from anabranch.harness.bench.streaming import Streaming, without_end

Made = TypeVar("Made")
CALM_S = 4.0
"""Stream before a change, and after it has settled."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    repeats: int
    rate: float


@dataclass
class Pauses:
    """Milliseconds that each partition's slowest ranking took around a change."""

    moved: list[float] = field(default_factory=list)
    stayed: list[float] = field(default_factory=list)


def run(stand: Stand, plan: Plan) -> dict[str, Any]:
    """Two rankers and a steady stream; a third joins, leaves in order, joins again and is killed."""
    found: dict[str, Pauses] = defaultdict(Pauses)
    calm: list[float] = []
    with Streaming(stand, without_end(stand.bed.ahead), plan.rate), stand.ranking(2) as two:
        for _ in range(plan.repeats):
            calm += _calm(stand)
            third = _around(stand, found["joins"], two, lambda: _join(stand, two))
            _around(stand, found["leaves"], two, third.child.stop)
            killed = _join(stand, two)
            stand.bed.processes.children.remove(killed.child)  # its end is none of theirs
            _around(stand, found["is killed"], two, killed.child.kill)
    return {
        "what": "the longest that a ranking waited around a change of the group, by partition",
        "machine": stand.machine,
        "plan": {"repeats": plan.repeats, "rate": plan.rate, "session_timeout_ms": stand.settings.session_timeout_ms},
        "no change, every ranking": percentiles(calm),
        **{f"a ranker {what}": _figures(pauses) for what, pauses in found.items()},
    }


def _calm(stand: Stand) -> list[float]:
    since = stand.ends()
    time.sleep(2 * CALM_S)
    return [waited for _, waited in stand.waits(since)]


def _join(stand: Stand, others: Sequence[Ranker]) -> Ranker:
    joined = stand.rank()
    stand.ready(*others, joined)
    return joined


def _around(stand: Stand, pauses: Pauses, remain: Sequence[Ranker], change: Callable[[], Made]) -> Made:
    """Make the change in the middle of the stream, and note how long each partition's slowest ranking took."""
    since = stand.ends()
    time.sleep(CALM_S)
    before = [ranker.held for ranker in remain]
    made = change()
    stand.settle(before, remain)
    time.sleep(CALM_S)
    moved = frozenset[int]().union(*(was ^ ranker.held for was, ranker in zip(before, remain, strict=True)))
    slowest: dict[int, float] = defaultdict(float)
    for partition, waited in stand.waits(since):
        slowest[partition] = max(slowest[partition], waited)
    for partition, waited in slowest.items():
        (pauses.moved if partition in moved else pauses.stayed).append(waited)
    return made


def _figures(pauses: Pauses) -> dict[str, Any]:
    return {
        name: spread(values) | {"partitions": len(values)} if values else None
        for name, values in (("moved_ms", pauses.moved), ("stayed_ms", pauses.stayed))
    }
