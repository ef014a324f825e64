"""The tables of a chaos run on the terminal: what was done to the processes, and what the topics hold."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from anabranch.harness.chaos.log_losses import LossFindings
from anabranch.harness.chaos.run import ChaosResult, ChaosRun
from anabranch.harness.chaos.verify import MUST_BE_ZERO, Findings


def show(result: ChaosResult, console: Console) -> None:
    """Print all of it; the last eight rows of each table are the counts that must be 0."""
    console.print(_add_counts(_table_of_run(result.run, result.findings), result.findings))
    console.print(_add_counts(_table_of_losses(result.losses), result.losses.findings))


def _table_of_run(run: ChaosRun, findings: Findings) -> Table:
    kills, by_release = run.kills, findings.by_release
    table = Table("chaos run", "", title="Chaos", title_justify="left")
    rows = {
        "kill -9": f"{kills['rankers']} rankers, {kills['brokers']} brokers",
        "pauses longer than the session timeout": f"{run.pauses}",
        "processes that ended by themselves": f"{len(run.last_words)}, {run.unexplained_ends} without an error message",
        "events": f"{findings.events:,} from {findings.users:,} users",
        "to rank, duplicates, invalid": f"{findings.accepted:,}, {findings.ignored:,}, {findings.rejected:,}",
        "rankings, feedback, dead letters": f"{findings.rankings:,}, {findings.feedback:,}, {findings.dead_letters:,}",
        "rankings by release": ", ".join(f"{name} {count:,}" for name, count in sorted(by_release.items())),
        "rankings in aborted transactions": f"{findings.rolled_back:,}",
        "seconds until no lag, until exit on SIGTERM": f"{run.catch_up_s}, at most {max(run.shutdown_s)}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _table_of_losses(losses: LossFindings) -> Table:
    table = Table("events trimmed, then the topic created again", "", title="Lost logs", title_justify="left")
    color = "green" if losses.is_counted else "red"
    table.add_row("events deleted before they were ranked", f"{losses.deleted:,}")
    table.add_row("counted in anabranch_events_lost_total", f"[{color}]{losses.counted:,}[/]")
    table.add_row("partitions of the new topic, counted as breaks", f"{losses.recreated}, [{color}]{losses.breaks}[/]")
    table.add_row("to rank, in both topics", f"{losses.findings.accepted:,}")
    return table


def _add_counts(table: Table, findings: Findings) -> Table:
    for name in MUST_BE_ZERO:
        count = getattr(findings, name)
        table.add_row(name.replace("_", " "), f"[bold {'red' if count else 'green'}]{count}[/]")
    return table
