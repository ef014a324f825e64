"""How many events a second one ranker ranks, beside the echo on the same events in the same run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

from kafka.admin import NewTopic

from anabranch import clients
from anabranch.cli.bench.echo import Echoed, since_of, topics_of
from anabranch.cli.bench.stand import Stand, spread
from anabranch.cli.offsets import Offsets, ends

ANSWERS = 2_000
"""Rankings and feedback kept of a ranker for the echo to send."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    repeats: int
    events: int
    batch: int
    """Events a ranker takes at once, at most."""
    echo_batches: tuple[int, ...]
    """As `batch`, for the echo; the best counts."""


def run(stand: Stand, plan: Plan) -> dict[str, Any]:
    """A ranker and the echo, in turn, over the same backlog; figures with their spread."""
    _provision(stand)
    first = stand.rank()  # the group begins behind the history
    stand.ready(first)
    first.child.stop()
    ranked: list[float] = []
    stages: list[dict[str, float]] = []
    echoed: dict[int, list[float]] = {batch: [] for batch in plan.echo_batches}
    ahead = stand.bed.ahead.events()
    for repeat in range(plan.repeats):
        since = stand.ends()
        stand.bed.publish(islice(ahead, plan.events))
        speed, share = _ranker(stand, plan, since)
        ranked.append(speed)
        stages.append(share)
        for batch in plan.echo_batches:
            echoed[batch].append(_echo(stand, plan, since, batch, f"echo-{repeat}-{batch}"))
    best = [max(speeds[repeat] for speeds in echoed.values()) for repeat in range(plan.repeats)]
    return {
        "what": "events a second through one ranker, and through the echo",
        "machine": stand.machine,
        "plan": {"repeats": plan.repeats, "backlog": plan.events, "batch": plan.batch},
        "events_per_second": spread(ranked),
        "echo_events_per_second": {str(batch): spread(speeds) for batch, speeds in echoed.items()},
        "share_of_best_echo": spread([one / other for one, other in zip(ranked, best, strict=True)]),
        "share_of_wall_time": {stage: spread([one[stage] for one in stages]) for stage in stages[0]},
    }


def _provision(stand: Stand) -> None:
    names = topics_of(stand.bed.topics)
    with closing(clients.admin(stand.settings)) as admin:
        admin.create_topics([NewTopic(name, stand.settings.partitions, 1) for name in names])


def _ranker(stand: Stand, plan: Plan, since: Offsets) -> tuple[float, dict[str, float]]:
    """Events a second, and the share of that time in each stage."""
    ranker = stand.rank("--set", f"batch_max={plan.batch}")
    stand.ready(ranker)
    stand.drained()
    spent = ranker.by_label("anabranch_stage_seconds_sum", "stage")
    ranker.child.stop()
    speed, seconds = _speed(sorted(answer.appended for answer in stand.answered(since)[1]))
    return speed, {stage: value / seconds for stage, value in spent.items()}


def _echo(stand: Stand, plan: Plan, since: Offsets, batch: int, group: str) -> float:
    names = topics_of(stand.bed.topics)
    before = ends(stand.settings, names[0])
    path = stand.settings.data_dir / "echoed.msgpack"
    rankings, feedback = (_values(stand, name) for name in (stand.bed.topics.rankings, stand.bed.topics.feedback))
    answers = list(zip(rankings, feedback, strict=True))
    Echoed(group, since_of(since, stand.settings.partitions), plan.events, answers).write(path)
    stand.bed.processes.start("--set", f"batch_max={batch}", "bench", "echo-loop", "--file", str(path)).wait()
    return _speed(sorted(record.timestamp for record in clients.read_from(stand.settings, names[0], before)))[0]


def _values(stand: Stand, topic: str) -> list[bytes]:
    """The first of a topic's messages."""
    return [record.value for record in islice(clients.read_to_end(stand.settings, [topic]), ANSWERS)]


def _speed(appended: Sequence[int]) -> tuple[float, float]:
    """Messages a second from the first on, before which a process got ready; and those seconds."""
    seconds = max(1, appended[-1] - appended[0]) / 1000
    return len(appended) / seconds, seconds
