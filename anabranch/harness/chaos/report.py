"""The tables of a chaos run on the terminal: what was done to the processes, and what the topics hold."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from anabranch.harness.chaos.run import ChaosRun
from anabranch.harness.chaos.verify import MUST_BE_ZERO, Findings


def show(run: ChaosRun, findings: Findings, console: Console) -> None:
    """Print both; the last eight rows are the counts that must be 0."""
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
    for name in MUST_BE_ZERO:
        count = getattr(findings, name)
        table.add_row(name.replace("_", " "), f"[bold {'red' if count else 'green'}]{count}[/]")
    console.print(table)
