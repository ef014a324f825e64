"""The `anabranch` command: registers every command, and turns errors into one clear line and an exit code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from anabranch.cli.options import Given
from anabranch.errors import AnabranchError, BrokerFailed

COMMANDS = {
    "demo": "The loop on real purchases, from an empty broker to a summary.",
    "chaos": "Kill everything at random; prove that nothing was lost, doubled or bent.",
    "bench": "Measure speed, restores and rebalances.",
    "topics": "Create, check and list the topics.",
    "catalogue": "Publish items, or their removal.",
    "replay": "Publish recorded events in order of time.",
    "index": "Vectorise the catalogue for the live release.",
    "rank": "Rank for every event.",
    "reshare": "Make a candidate from the feedback; the gate decides.",
    "share": "Make a release from files, without a broker.",
    "evaluate": "Measure offline, by the code that serves.",
    "results": "Measure every benchmark, and write the page of results.",
    "releases": "List releases, or show one with its gate's numbers.",
    "dead-letters": "Look at what could not be read, or put it back.",
    "inspect": "Look at an event, a user, a topic or the settings.",
    "schema": "Write the JSON Schemas of the messages.",
}
"""Each is a module of this package (a dash is an underscore there) with a function `command` or a Typer `app`."""


@contextmanager
def translated() -> Iterator[None]:
    """Kafka's own errors as `BrokerFailed`; kafka-python is not loaded to find out that it raised none."""
    try:
        yield
    except Exception as error:
        kafka = sys.modules.get("kafka.errors")
        if kafka is None or not isinstance(error, kafka.KafkaError):
            raise
        raise BrokerFailed(f"the broker, or the way to it, failed: {error}") from error


class Commands(TyperGroup):
    """Reports `AnabranchError`s without a traceback: they are for the person at the terminal, not defects."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; exit with the error's own code."""
        try:
            with translated():
                return super().invoke(ctx)
        except AnabranchError as error:
            typer.echo(f"anabranch: {error}", err=True)
            raise typer.Exit(error.exit_code) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A real-time recommender on Kafka. Example: anabranch topics provision",
)


@app.callback()
def options(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option(envvar="ANABRANCH_CONFIG", help="A TOML file of settings.", dir_okay=False)
    ] = None,
    bootstrap_servers: Annotated[str | None, typer.Option(help="The brokers, host:port,host:port.")] = None,
    topic_prefix: Annotated[str | None, typer.Option(help="Goes before every topic and group.")] = None,
    data_dir: Annotated[str | None, typer.Option(help="Where this process keeps files.")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any setting; `inspect settings` lists them."),
    ] = None,
) -> None:
    """Settings: defaults < --config file < ANABRANCH_* environment < these options < a command's own."""
    own = {
        "bootstrap_servers": bootstrap_servers,
        "topic_prefix": topic_prefix,
        "data_dir": data_dir,
        "log_level": log_level,
    }
    ctx.obj = Given.parse(config, own, settings or [])


def _register() -> None:
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"anabranch.cli.{name.replace('-', '_')}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name, help=summary, no_args_is_help=True)
        else:
            app.command(name, short_help=summary)(module.command)


_register()
