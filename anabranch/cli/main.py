"""The `anabranch` command: registers the commands, and prints errors as one message with an exit code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from anabranch.cli.options import GlobalOptions, current_name
from anabranch.errors import AnabranchError, BrokerFailed

COMMANDS = {
    "demo": "Run the whole system on real purchases, from an empty broker to a summary.",
    "chaos": "Kill processes at random, and verify that no event was lost, repeated or changed.",
    "bench": "Measure throughput, latency, restores and rebalances.",
    "standalone": "Run everything on this machine: Kafka, and every process of Anabranch.",
    "broker": "Start and stop an Apache Kafka for trials.",
    "topics": "Create, check or list the topics.",
    "check": "Read files of events and items, and say what they hold.",
    "catalogue": "Publish items, or remove them.",
    "replay": "Publish recorded events in order of time.",
    "collect": "Take events over HTTP, and publish them.",
    "serve": "Answer requests for recommendations over HTTP.",
    "keys": "Create, list and remove API keys.",
    "index": "Compute item vectors for the live release.",
    "neighbours": "Publish which items are visited together, as events come.",
    "rank": "Publish a ranking for every event.",
    "reshare": "Train a release candidate on the feedback; the gate decides.",
    "share": "Train a release from files, without a broker.",
    "evaluate": "Evaluate a release offline, with the code that serves.",
    "results": "Run every benchmark, and write the page of results.",
    "rules": "Pin, boost, bury and hide items: add, list and preview rules.",
    "releases": "List the releases, or show one with its gate's results.",
    "dead-letters": "Show events that could not be read, or replay them.",
    "inspect": "Show an event, a user, a topic, the state sizes or the settings.",
    "schema": "Write the JSON Schemas of messages, and the OpenAPI and AsyncAPI documents.",
}
"""Command → summary. Each command is a module of this package, with `_` for `-`, that has a function `command` or a
Typer `app`."""


@contextmanager
def kafka_errors_translated() -> Iterator[None]:
    """Raise errors of kafka-python as `BrokerFailed`. Does not import it: `--help` must stay fast."""
    try:
        yield
    except Exception as error:
        kafka = sys.modules.get("kafka.errors")
        if kafka is None or not isinstance(error, kafka.KafkaError):
            raise
        raise BrokerFailed(f"the broker, or the connection to it, failed: {error}") from error


class CommandGroup(TyperGroup):
    """Prints an `AnabranchError` without a traceback: it is a message to the user, not a defect."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Exit with the error's own code."""
        try:
            with kafka_errors_translated():
                return super().invoke(ctx)
        except AnabranchError as error:
            typer.echo(f"anabranch: {error}", err=True)
            raise typer.Exit(error.exit_code) from error


app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"token_normalize_func": current_name},
    help=(
        "A real-time recommender on Kafka.\n\n"
        "Settings come from the defaults, the --config file, ANABRANCH_* variables, "
        "and the options before and after the command; later ones win.\n\nExample: anabranch topics provision"
    ),
)


@app.callback()
def options(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option(envvar="ANABRANCH_CONFIG", help="TOML file of settings.", dir_okay=False)
    ] = None,
    bootstrap_servers: Annotated[str | None, typer.Option(help="Kafka brokers, as host:port,host:port.")] = None,
    topic_prefix: Annotated[str | None, typer.Option(help="Prefix of every topic and consumer group.")] = None,
    data_dir: Annotated[str | None, typer.Option(help="Folder for the files of this process.")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any setting; `anabranch inspect settings` lists them."),
    ] = None,
) -> None:
    """Options before the command."""
    named = {
        "bootstrap_servers": bootstrap_servers,
        "topic_prefix": topic_prefix,
        "data_dir": data_dir,
        "log_level": log_level,
    }
    ctx.obj = GlobalOptions.parse(config, named, settings or [])


def _register() -> None:
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"anabranch.cli.{name.replace('-', '_')}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name, help=summary, no_args_is_help=True)
        else:
            app.command(name, short_help=summary)(module.command)


_register()
