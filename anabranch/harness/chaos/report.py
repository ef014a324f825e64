"""What happened and what was found, on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from anabranch.harness.chaos.run import Happened
from anabranch.harness.chaos.verify import MUST_BE_0, Findings


def show(happened: Happened, findings: Findings, console: Console) -> None:
    """Print both, the six figures that must be 0 at the end."""
    kills, by_release = happened.kills, findings.by_release
    table = Table("What happened", "", title="Chaos", title_justify="left")
    rows = {
        "killed with -9": f"{kills['rankers']} rankers, {kills['brokers']} brokers",
        "paused beyond the session's time-out": f"{happened.pauses}",
        "ended by themselves, started again": f"{len(happened.ended)}, {happened.defects} without saying why",
        "events": f"{findings.events:,} of {findings.users:,} users",
        "to be ranked, duplicates, poison": f"{findings.accepted:,}, {findings.ignored:,}, {findings.rejected:,}",
        "rankings, feedback, dead letters": f"{findings.rankings:,}, {findings.feedback:,}, {findings.dead_letters:,}",
        "rankings by release": ", ".join(f"{name} {count:,}" for name, count in sorted(by_release.items())),
        "rankings rolled back, never seen": f"{findings.rolled_back:,}",
        "seconds to catch up, to end on SIGTERM": f"{happened.catch_up_s}, at most {max(happened.shutdown_s)}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    for name in MUST_BE_0:
        count = getattr(findings, name)
        table.add_row(name.replace("_", " "), f"[bold {'red' if count else 'green'}]{count}[/]")
    console.print(table)
