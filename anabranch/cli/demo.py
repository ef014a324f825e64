"""`anabranch demo`: the whole loop on real purchases, or on a shop's own files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anabranch.cli import file_options
from anabranch.errors import UsageError
from models.experiments.choices import DataKind

if TYPE_CHECKING:
    from anabranch.harness.demo.data import DemoData
    from anabranch.harness.demo.shop_files import ShopFiles
    from anabranch.input_files.check import Content
    from anabranch.input_files.events import EventOptions
    from anabranch.input_files.faults import Faults
    from anabranch.settings import Settings


def command(
    ctx: typer.Context,
    events: Annotated[
        Path | None,
        typer.Option(help="Play this file of events, or folder of its parts. Default: purchases of real households."),
    ] = None,
    items: Annotated[Path | None, typer.Option(help="Catalogue of --events: a file of items.")] = None,
    columns: file_options.Columns = None,
    types: file_options.Types = None,
    type: Annotated[str | None, typer.Option(help="Type of events that have none.  [default: purchase]")] = None,
    encoding: file_options.Encoding = None,
    skip_faulty: file_options.SkipFaulty = False,
    history_share: Annotated[
        float | None,
        typer.Option(min=0.1, max=0.95, help="Share of --events before the first re-share.  [default: 0.7]"),
    ] = None,
    reshares: Annotated[
        int | None, typer.Option(min=1, help="How many re-shares happen during the other events.  [default: 2]")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Everything: the year of all households, or all of --events and --items.")
    ] = False,
    households: Annotated[
        int | None, typer.Option(min=1, help="So many households, drawn with the random seed.  [default: 400]")
    ] = None,
    history_weeks: Annotated[
        int | None, typer.Option(min=4, help="Weeks before the first re-share.  [default: 9]")
    ] = None,
    replay_weeks: Annotated[int | None, typer.Option(min=1, help="Weeks after them.  [default: 4]")] = None,
    reshare_every: Annotated[
        int | None, typer.Option(min=1, help="Weeks of data between two re-shares.  [default: 2]")
    ] = None,
    kind: Annotated[
        DataKind | None, typer.Option(help="What the order of events means. Default: found from the events.")
    ] = None,
    random_seed: Annotated[int, typer.Option(help="Seed of the order within baskets and of training.")] = 0,
    exclude_seen: Annotated[
        bool, typer.Option("--exclude-seen", help="Never rank items the user has already bought.")
    ] = False,
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(
            envvar="ANABRANCH_BOOTSTRAP_SERVERS",
            help="Use this broker, with new topics for this run. Default: start one.",
        ),
    ] = None,
    speed: Annotated[
        str | None, typer.Option(help="Replay between re-shares at a multiple of data time, such as 1000x.")
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="Folder for the broker, releases, logs and summary.")] = Path(
        ".anabranch/demo"
    ),
) -> None:
    """Run the whole loop: events in, rankings out, feedback re-shared, an accepted release swapped in meanwhile.

    It ranks from the first event on, by a release that needs no data. The end is a table: what each release served,
    next to popularity, the user's own counts and co-visits on the same events.

    Example: anabranch demo --events events.csv --items products.csv --columns user_id=visitorid --types addtocart=cart
    """
    import time

    from anabranch.cli.options import settings_of
    from anabranch.console import output_console
    from anabranch.harness.demo.report import show
    from anabranch.harness.demo.run import DemoOptions, run
    from anabranch.harness.environment.command import prepare_command
    from anabranch.indented_json import write_json
    from producers.pace import Pace

    folder = data_dir.resolve()
    settings = settings_of(
        ctx,
        data_dir=str(folder),
        releases_dir=str(folder / "releases"),
        topic_prefix=f"demo-{time.time_ns() // 1_000_000}-" if bootstrap_servers else None,
        bootstrap_servers=bootstrap_servers,
        exclude_seen=exclude_seen or None,
    )
    weeks = {
        "households": households,
        "history_weeks": history_weeks,
        "replay_weeks": replay_weeks,
        "reshare_every": reshare_every,
    }
    reading = {"items": items, "columns": columns, "types": types, "type": type, "encoding": encoding}
    division = {"history_share": history_share, "reshares": reshares}
    if events is None:
        _refuse(reading | division | {"skip_faulty": skip_faulty or None}, "is for --events FILE")
        load = _load_households(_given(weeks), full, random_seed)
    else:
        _refuse(weeks, "is for the purchases of households; --events FILE has --history-share and --reshares")
        reader = file_options.event_options(settings, columns, types, type or "purchase", encoding)
        files = _shop_files(settings, events, items, reader, skip_faulty)
        load = _load_files(files, _given(division), full)
    options = DemoOptions(load, random_seed, Pace.parse(speed), bootstrap_servers, kind.value if kind else None)
    prepare_command()
    console = output_console()
    summary = run(options, settings, console)
    target = data_dir / "summary.json"
    write_json(target, summary.as_json())
    show(summary, console)
    console.print(f"{target} holds these figures and more.")
    raise typer.Exit(0 if summary.reconciliation.balanced else 1)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _refuse(options: Mapping[str, Any], reason: str) -> None:
    """Raise `UsageError` if one of these options is given."""
    for name in _given(options):
        raise UsageError(f"--{name.replace('_', '-')} {reason}")


def _load_households(given: Mapping[str, int], full: bool, random_seed: int) -> Callable[[], DemoData]:
    from anabranch.harness.demo.households import HouseholdSchedule, household_data

    usual = HouseholdSchedule.full() if full else HouseholdSchedule()
    return partial(household_data, replace(usual, **given), random_seed)


def _load_files(files: ShopFiles, given: Mapping[str, Any], full: bool) -> Callable[[], DemoData]:
    from anabranch.harness.demo.shop_files import PlaySchedule

    usual = PlaySchedule(max_events=None) if full else PlaySchedule()
    return partial(files.data, replace(usual, **given))


def _shop_files(
    settings: Settings, events: Path, items: Path | None, options: EventOptions, skip_faulty: bool
) -> ShopFiles:
    """The files; how each was read is printed on stderr."""
    from anabranch.harness.demo.shop_files import ShopFiles

    def say(file: Path, content: Content, lines: Sequence[str], faults: Faults) -> Path | None:
        skipped = file_options.skipped_path(settings, file, content, skip_faulty)
        file_options.say(file, lines, faults, skipped)
        return skipped

    return ShopFiles(events, items, options, say)
