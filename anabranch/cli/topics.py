"""`anabranch topics`."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli.options import settings_of

app = typer.Typer()


@app.command()
def provision(ctx: typer.Context) -> None:
    """Create missing topics, and check the others. Safe to repeat.

    Example: anabranch --bootstrap-servers kafka:9092 topics provision
    """
    from contextlib import closing

    from anabranch.kafka import clients, topics

    settings = settings_of(ctx)
    with closing(clients.admin(settings)) as admin:
        created = topics.provision(admin, settings)
    typer.echo(f"created {', '.join(created)}" if created else "every topic exists, with the right settings")


@app.command()
def check(ctx: typer.Context) -> None:
    """Compare the topics with their specification. Print every difference and exit with code 1 if there are any.

    Example: anabranch topics check
    """
    from contextlib import closing

    from anabranch.kafka import clients, topics

    settings = settings_of(ctx)
    with closing(clients.admin(settings)) as admin:
        topics.require(admin, settings)
    typer.echo("every topic exists, with the right settings")


@app.command()
def repartition(
    ctx: typer.Context,
    partitions: Annotated[int, typer.Option(min=1, help="How many partitions there are to be.")],
) -> None:
    """Add partitions to the topics that have users as keys, and move user states along. Safe to repeat.

    Stop the producers of events, rank what is left with `anabranch rank --drain`, and stop every ranker before. Users
    are where Kafka's default partitioner puts them, so every producer of events must use it. Afterwards set
    `partitions`, for every process. Cut off in the middle, it goes on where it was; before its end no ranker starts.

    Example: anabranch topics repartition --partitions 8
    """
    from anabranch.progress_bar import bar
    from consumers.ranker.repartitioning import Repartitioning

    settings = settings_of(ctx)
    with bar("Move user states", None) as advance:
        result = Repartitioning(settings, partitions, advance).run()
    if result.before == result.after and not result.moved:
        typer.echo(f"users are spread over {partitions} partitions already")
    else:
        typer.echo(f"{result.moved} users have moved to other partitions, of {result.after} instead of {result.before}")
    item_partitions = settings.item_partitions or settings.partitions
    typer.echo(f"set partitions={partitions} and item_partitions={item_partitions} for every process")


@app.command("list")
def list_topics(ctx: typer.Context) -> None:
    """List the topics and their settings, as specified.

    Example: anabranch --topic-prefix shop. topics list
    """
    from rich.table import Table

    from anabranch.console import output_console
    from anabranch.kafka.topics import Topics

    table = Table("topic", "partitions", "cleanup", "other settings")
    for topic in Topics(settings_of(ctx)).all:
        configs = dict(topic.configs)
        cleanup = configs.pop("cleanup.policy")
        table.add_row(topic.name, str(topic.partitions), cleanup, "\n".join(f"{k}={v}" for k, v in configs.items()))
    output_console().print(table)
