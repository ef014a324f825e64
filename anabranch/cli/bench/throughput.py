"""How many events a second one ranker ranks, beside the echo on the same events in the same run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

from kafka.admin import NewTopic

from anabranch import clients
from anabranch.cli.bench.echo import Echoed, topics_of
from anabranch.cli.bench.stand import Stand, seconds_between, spread
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
    stand.begin()
    ranked: list[float] = []
    stages: list[dict[str, float]] = []
    echoed: dict[int, list[float]] = {batch: [] for batch in plan.echo_batches}
    answers: list[tuple[bytes, bytes]] = []
    ahead = stand.bed.ahead.events()
    for repeat in range(plan.repeats):
        since = stand.ends()
        stand.bed.publish(islice(ahead, plan.events))
        speed, share = _ranker(stand, plan, since)
        ranked.append(speed)
        stages.append(share)
        answers = answers or _answers(stand)
        for batch in plan.echo_batches:
            echoed[batch].append(_echo(stand, batch, Echoed(f"echo-{repeat}-{batch}", since, plan.events, answers)))
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
    speed, seconds = _speed([answer.appended for answer in stand.answered(since)[1]])
    return speed, {stage: value / seconds for stage, value in spent.items()}


def _echo(stand: Stand, batch: int, echoed: Echoed) -> float:
    rankings = topics_of(stand.bed.topics)[0]
    before = ends(stand.settings, rankings)
    path = stand.settings.data_dir / "echoed.msgpack"
    echoed.write(path)
    stand.bed.processes.start("--set", f"batch_max={batch}", "bench", "echo-loop", "--file", str(path)).wait()
    return _speed([record.timestamp for record in clients.read_from(stand.settings, rankings, before)])[0]


def _answers(stand: Stand) -> list[tuple[bytes, bytes]]:
    """A ranker's first rankings and feedback."""
    rankings, feedback = (
        [record.value for record in islice(clients.read_to_end(stand.settings, [topic]), ANSWERS)]
        for topic in (stand.bed.topics.rankings, stand.bed.topics.feedback)
    )
    return list(zip(rankings, feedback, strict=True))


def _speed(appended: Sequence[int]) -> tuple[float, float]:
    """Messages a second from the first on, and those seconds."""
    seconds = seconds_between(appended)
    return len(appended) / seconds, seconds
