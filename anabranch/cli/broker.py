"""`anabranch broker`: Apache Kafka on this machine, for trials."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from anabranch.harness.environment.local_broker import LocalBroker

app = typer.Typer()

Folder = Annotated[Path, typer.Option(help="Folder for its data and its log.", file_okay=False)]
DEFAULT_FOLDER = Path(".anabranch/broker")


@app.command()
def start(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port on 127.0.0.1. Default: 9092, or a free one.")
    ] = None,
    data_dir: Folder = DEFAULT_FOLDER,
) -> None:
    """Start Apache Kafka on one node, wait until it answers, and print its address. It runs until `broker stop`.

    The first start fetches some 60 MB of jars; Java comes with the package. It has no replication and lets everybody
    on this machine in: use it for trials. Its data stays for the next start.

    Example: anabranch broker start
    """
    _print_address(_broker(data_dir).start(port))


@app.command()
def stop(data_dir: Folder = DEFAULT_FOLDER) -> None:
    """Stop the broker and wait for its end. Its data stays.

    Example: anabranch broker stop
    """
    if not _broker(data_dir).stop():
        typer.echo(f"no broker with its data in {data_dir} is running", err=True)


@app.command()
def status(data_dir: Folder = DEFAULT_FOLDER) -> None:
    """Print the address of the broker. The exit code is 3 if it does not run.

    Example: anabranch broker status
    """
    running = _broker(data_dir).running()
    if running is None:
        typer.echo(f"no broker with its data in {data_dir} is running", err=True)
        raise typer.Exit(3)
    _print_address(running.bootstrap_servers)


def _broker(folder: Path) -> LocalBroker:
    from anabranch.harness.environment.local_broker import LocalBroker

    return LocalBroker(folder)


def _print_address(bootstrap_servers: str) -> None:
    """In a form for `export`."""
    typer.echo(f"ANABRANCH_BOOTSTRAP_SERVERS={bootstrap_servers}")
