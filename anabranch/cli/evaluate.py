"""`anabranch evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    release_dir: Annotated[Path, typer.Option("--release", help="The release's folder.", file_okay=False)],
    events: Annotated[Path, typer.Option(help="Events: parquet, CSV or JSONL with user_id, item_id, ts.")],
    items: Annotated[Path, typer.Option(help="The catalogue: parquet, CSV or JSONL with item_id, title.")],
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the events that are only learned.")] = 0.8,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.", dir_okay=False)] = None,
) -> None:
    """Measure a release offline by the code that serves, against baselines learned prequentially on the same events.

    The first share of the events is folded into user states and the co-visit table; the release ranks the others.

    Example: anabranch evaluate --release .anabranch/releases/r0001 --events events.parquet --items items.parquet
    """
    import msgspec

    from anabranch import release
    from anabranch.cli.evaluation_report import figures, show_figures
    from anabranch.cli.progress import bar
    from anabranch.messages import Item
    from anabranch.ranking.candidates import Policy
    from anabranch.ranking.item_ids import ItemIds
    from models.evaluation import protocols
    from models.evaluation.prequential import account
    from models.lists import neighbour_table
    from models.log import EventLog
    from models.seeds.co_visit import CoVisit
    from producers.catalogue import read_items
    from producers.replay import read_events

    settings = settings_of(ctx)
    measured = release.opened(release_dir)
    measured.verify()
    catalogue = [item for item in read_items(items) if isinstance(item, Item)]
    log = EventLog.from_events(read_events(events, sort=True), [item.item_id for item in catalogue])
    start = int(share * len(log))
    with bar("Learn co-visits", start) as advance:
        co_visit = CoVisit.fit(log.take(slice(0, start)), done=advance)
    item_ids = ItemIds()
    live = protocols.load(measured, item_ids, catalogue, settings.data_dir)
    policy = Policy.of(settings)
    ranker = protocols.Ranker(live, neighbour_table(co_visit.table(), item_ids, log), item_ids, policy)
    with bar("Rank", len(log)) as advance:
        shown = protocols.show(ranker, log, start, advance)
    with bar("Score the baselines on the same events", len(log)) as advance:
        served = protocols.served_log(log, shown, measured.manifest.id)
        prequential = account(served, policy=policy, done=advance)
    found = figures(measured.manifest.id, shown, prequential, len(catalogue))
    show_figures(found)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))
