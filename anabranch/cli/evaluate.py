"""`anabranch evaluate`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from anabranch.cli import file_options
from anabranch.cli import training_options as options
from anabranch.cli.options import settings_of
from models.experiments.choices import EvaluationProtocol, TextAdapterKind, WeeklyUpdate


def command(
    ctx: typer.Context,
    data: options.Data,
    protocol: options.Protocol = EvaluationProtocol.PREQUENTIAL,
    items: options.Items = None,
    columns: file_options.Columns = None,
    types: file_options.Types = None,
    type: file_options.DefaultType = "purchase",
    encoding: file_options.Encoding = None,
    release: Annotated[
        Path | None, typer.Option(help="Release folder to evaluate. It must be trained on earlier events only.")
    ] = None,
    kind: options.Kind = None,
    share: options.Share = 0.8,
    train_on: options.TrainOn = None,
    validation: Annotated[
        bool,
        typer.Option(
            "--validation",
            help="Leave the test out, and predict the last events before it: to choose settings without the test.",
        ),
    ] = False,
    new_items: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.9,
            help="Share of the items whose events for training are left out: how well items are ranked that nobody had "
            "yet. Their figures are the slice new_items.",
        ),
    ] = 0.0,
    random_seed: options.RandomSeed = 0,
    threads: options.Threads = 2,
    seed_models: Annotated[
        bool, typer.Option("--seeds", help="Evaluate every seed model alone too, on the same events.")
    ] = False,
    without: Annotated[
        str | None,
        typer.Option(
            metavar="PART,…",
            help="Rank the same events again with one of these parts taken out at a time: encoder, neighbours, "
            "own_items, learned_order, texts, text_adapter, a sharing strategy, or a seed model that teaches, such as "
            "seed:als. `each`: every part that the ranking uses. Only what a part needs is trained again.",
        ),
    ] = None,
    strategies: options.Strategies = None,
    search_seconds: options.SearchSeconds = 0.0,
    text_model: options.TextModel = None,
    text_adapter: options.TextAdapter = TextAdapterKind.NONE,
    way: Annotated[
        list[WeeklyUpdate] | None,
        typer.Option(help="How each week's model is made, protocol weekly; may be repeated. Default: every way."),
    ] = None,
    ranks: Annotated[
        Path | None,
        typer.Option(help="Write each event's rank to this .npz file, for paired comparisons of releases."),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the results to this file, as JSON.", dir_okay=False)] = None,
) -> None:
    """Evaluate a release offline, with the code that serves. Without --release, train one first, as `share` does.

    Protocols: sessions and leave-one-out predict the test part of a data folder. weekly predicts each period of a
    folder from the earlier ones, or each week after the first --share of a file of events. time-split predicts the last
    part of a file of events. prequential does the same, next to baselines that learn from every event after predicting
    it.

    Example: anabranch evaluate --data ../shared/data/diginetica --protocol sessions --json diginetica.json
    """
    from anabranch.indented_json import write_json
    from models.experiments.evaluation import Evaluation
    from models.experiments.input_data import Division
    from models.experiments.training_options import TrainingOptions
    from models.report.evaluation_table import show

    settings = settings_of(ctx)
    training = TrainingOptions(
        rankers=settings,
        comparison_points=0,  # seed models are evaluated on the test, if at all
        random_seed=random_seed,
        threads=threads,
        strategies=strategies,
        search_seconds=search_seconds,
        text_model=text_model,
        text_adapter=text_adapter,
    )
    evaluation = Evaluation(
        division=Division(protocol, share, train_on, validation, new_items),
        files=options.input_files(data, items, file_options.event_options(settings, columns, types, type, encoding)),
        random_seed=random_seed,
        kind=None if kind is None else kind.value,
        configure=training.config,
        release_dir=release,
        data_dir=settings.data_dir,
        with_seed_models=seed_models,
        ranks_file=ranks,
        ways=way or list(WeeklyUpdate),
        without=without,
    )
    results = {"date": datetime.now(UTC).date().isoformat()} | evaluation.run()
    show(results)
    if json is not None:
        write_json(json, results)
