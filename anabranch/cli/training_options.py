"""Options that `share`, `evaluate` and `reshare` have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.experiments.choices import DataKind, EvaluationProtocol, TextAdapterKind, TrainingRows

if TYPE_CHECKING:
    from anabranch.input_files.events import EventOptions
    from models.experiments.input_data import InputFiles

Data = Annotated[
    list[Path],
    typer.Option(help="Folder of parquet files, once per domain of a catalogue; or a file of events, as for `replay`."),
]
Items = Annotated[Path | None, typer.Option(help="Catalogue of a file of events: a file of items, as for `catalogue`.")]
Protocol = Annotated[EvaluationProtocol, typer.Option(help="How the data is divided into training and test events.")]
Kind = Annotated[
    DataKind | None,
    typer.Option(
        help="What the order of events means, which selects the preset of training. Default: found in a file of "
        "events; for a folder, what is usual for the protocol."
    ),
]
Share = Annotated[
    float, typer.Option(min=0.05, max=0.99, help="Share of a file of events that comes before the test events.")
]
TrainOn = Annotated[
    TrainingRows | None,
    typer.Option(
        help="Events that are learned, protocol leave-one-out: with `train`, each user's validation event is only part "
        "of the user's history, as in published results.  [default: train+validation]"
    ),
]
RandomSeed = Annotated[int, typer.Option(help="Random seed of training: the same data and seed make the same release.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads for training.")]
Strategies = Annotated[
    str | None,
    typer.Option(help="Sharing strategies, separated by commas; `none` trains on the events alone, without teachers."),
]
SearchSeconds = Annotated[
    float,
    typer.Option(min=0.0, help="CPU seconds to search for strategies, their weights and the training's parameters."),
]
TextModel = Annotated[
    str | None, typer.Option(help="Text transformer: a folder, or the id of a Hugging Face model in the local cache.")
]
TextAdapter = Annotated[TextAdapterKind, typer.Option(help="How to adapt the text transformer to the items' titles.")]


def input_files(data: list[Path], items: Path | None, options: EventOptions) -> InputFiles:
    """The files that the options of a command name; how they are read is printed on stderr."""
    from models.experiments.input_data import InputFiles

    return InputFiles(data, items, options, lambda line: typer.echo(line, err=True))
