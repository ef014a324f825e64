"""`anabranch topics`."""

from __future__ import annotations

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


@app.command("list")
def list_topics(ctx: typer.Context) -> None:
    """List the topics and their settings, as specified.

    Example: anabranch --topic-prefix shop. topics list
    """
    from rich.console import Console
    from rich.table import Table

    from anabranch.kafka.topics import Topics

    table = Table("topic", "partitions", "cleanup", "other settings")
    for topic in Topics(settings_of(ctx)).all:
        configs = dict(topic.configs)
        cleanup = configs.pop("cleanup.policy")
        table.add_row(topic.name, str(topic.partitions), cleanup, "\n".join(f"{k}={v}" for k, v in configs.items()))
    Console().print(table)
