"""`anabranch releases`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anabranch.cli.options import settings_of
from anabranch.cli.output import moment, show_json
from anabranch.messages import ReleaseNotice
from anabranch.settings import Settings

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_releases(ctx: typer.Context, json: Json = False) -> None:
    """List the releases with their status, and whether their folders are complete.

    Example: anabranch releases list
    """
    import msgspec
    from rich.markup import escape
    from rich.table import Table

    from anabranch.console import output_console

    rows = _rows(settings_of(ctx))
    if json:
        typer.echo(msgspec.json.encode(rows))
        return
    table = Table("release", "status", "announced", "parent", "folder", "gate")
    for row in rows:
        cells = (row["release"], row["status"], moment(row["ts"]), row["parent"], row["folder"], row["reason"])
        table.add_row(*(escape(text or "") for text in cells))
    output_console().print(table)


@app.command()
def show(ctx: typer.Context, release: Annotated[str, typer.Argument(help="The release's id.")]) -> None:
    """Show a release: its last notice, its manifest and the path of its report, as JSON.

    Example: anabranch releases show 20260101T000000Z
    """
    import msgspec

    from anabranch import release as folders
    from anabranch.errors import UsageError

    settings = settings_of(ctx)
    row = next((row for row in _rows(settings) if row["release"] == release), None)
    if row is None:
        raise UsageError(f"there is no release {release}; `anabranch releases list` lists them")
    description: dict[str, Any] = {"notice": row}
    if row["folder"] == "whole":
        folder = folders.folder_of(settings.releases_dir, row["location"])
        description["manifest"] = msgspec.to_builtins(folders.open_release(folder).manifest)
    report = folders.report_path(settings.data_dir, release)
    if report.exists():
        description["report"] = str(report)
    show_json(description)


@app.command()
def announce(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="The release's folder, in `releases_dir`.", file_okay=False)],
    reason: Annotated[str, typer.Option(help="Why, for `releases list`.")] = "announced by hand",
) -> None:
    """Make a release live: a first one trained from files, or an earlier one again, to roll back.

    Its files are verified, but it passes no gate. The release that was live is retired. Rankers swap the new one in as
    soon as its item vectors are complete, and the next release candidate has to beat it.

    Example: anabranch releases announce .anabranch/releases/r0001 --reason "r0002 has lost clicks"
    """
    import time

    from anabranch.kafka import clients, release_topic
    from anabranch.ranking.pipeline.servable import require_servable
    from anabranch.release import open_release

    settings = settings_of(ctx)
    clients.require_topics(settings)
    notice = release_topic.live_notice(settings, folder, time.time_ns() // 1_000_000, reason)
    require_servable(open_release(folder).manifest)
    before = release_topic.read_release_notices(settings).live
    release_topic.go_live(settings, notice, before)
    retired = f"; {before.release} is retired" if before and before.release != notice.release else ""
    typer.echo(f"release {notice.release} is live{retired}")


def _rows(settings: Settings) -> list[dict[str, Any]]:
    """The newest notice of every release, in the order of the first notices, with the state of the folder."""
    import msgspec

    from anabranch.kafka import clients
    from anabranch.kafka.release_topic import read_release_notices

    clients.require_topics(settings)
    return [
        {"parent": None, "reason": None, "gate": {}, "gate_from": None, "gate_to": None}
        | msgspec.to_builtins(notice)
        | {"folder": _condition(settings, notice)}
        for notice in read_release_notices(settings).newest.values()
    ]


def _condition(settings: Settings, notice: ReleaseNotice) -> str:
    """`whole`, or what is wrong with the folder."""
    from anabranch import release as folders
    from anabranch.ranking.pipeline.servable import require_servable

    try:
        opened = folders.open_announced(settings.releases_dir, notice)
        opened.verify()
        require_servable(opened.manifest)
    except folders.ReleaseError as error:
        return str(error)
    return "whole"
