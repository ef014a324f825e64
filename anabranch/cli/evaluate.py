"""`anabranch evaluate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from anabranch.cli.data import (
    KIND_OF,
    Adapter,
    Data,
    Items,
    Kind,
    Protocol,
    ProtocolOption,
    SearchSeconds,
    Share,
    Strategies,
    TextAdapter,
    TextModel,
    Way,
    config_of,
)
from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    data: Data,
    protocol: ProtocolOption = Protocol.PREQUENTIAL,
    items: Items = None,
    release_dir: Annotated[
        Path | None, typer.Option("--release", help="Measure this release, made of what comes before the test.")
    ] = None,
    kind: Kind = None,
    share: Share = 0.8,
    seed: Annotated[int, typer.Option(help="Seeds the training of a release made here.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads to train with.")] = 2,
    with_seeds: Annotated[
        bool, typer.Option("--seeds", help="Measure every seed alone too, on the same events.")
    ] = False,
    strategies: Strategies = None,
    search_seconds: SearchSeconds = 0.0,
    text_model: TextModel = None,
    text_adapter: TextAdapter = Adapter.NONE,
    ways: Annotated[
        list[Way] | None,
        typer.Option("--way", help="How each week is learned; else by all of them, one after another."),
    ] = None,
    ranks_file: Annotated[
        Path | None,
        typer.Option("--ranks", help="Write each event's rank here, as .npz, to compare releases by pairs."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.", dir_okay=False)] = None,
) -> None:
    """Measure offline by the very code that serves. Without --release one is made first, as `anabranch share` would.

    sessions and leave-one-out predict the test part of a data folder, weekly each period from those before, time-split
    the last part of a file of events; prequential does too, beside baselines that learn with every event.

    Example: anabranch evaluate --data ../shared/data/diginetica --protocol sessions --json diginetica.json
    """
    from anabranch.cli.evaluation import Evaluation
    from anabranch.cli.evaluation_report import show

    settings = settings_of(ctx)
    config = config_of(kind or KIND_OF[protocol], seed, threads, strategies, search_seconds, text_model, text_adapter)
    config = replace(config, comparison_points=0)  # --with-seeds compares seed models on the test instead
    evaluation = Evaluation(
        protocol, data, items, share, config, release_dir, settings, with_seeds, ranks_file, ways or list(Way)
    )
    found = evaluation.run()
    show(found)
    if json_file is not None:
        import msgspec

        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))
