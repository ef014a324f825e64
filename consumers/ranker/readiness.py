"""Whether a ranker does its work: it has a release, its partitions are restored and ranked, and it is not behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from consumers.ranker.partition_task import PartitionTask, TaskState


def waits_for(tasks: Iterable[PartitionTask], lags: Mapping[int, int], max_lag: int) -> str | None:
    """Why the partitions of a ranker are not ranked as events come; None if they are, or if it has none.

    `lags`: of each partition, as far as it is known, the events behind the end of its log. A standby is ready: it has
    no partition.
    """
    for task in tasks:
        if task.state is not TaskState.RUNNING:
            return f"partition {task.partition} is {task.state.value}, not yet ranked"
        lag = lags.get(task.partition)
        if lag is None:
            return f"the end of partition {task.partition} is not known yet"
        if lag > max_lag:
            return f"partition {task.partition} is {lag} events behind: more than ready_max_lag, {max_lag}"
    return None
