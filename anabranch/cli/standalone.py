"""`anabranch standalone`."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(envvar="ANABRANCH_BOOTSTRAP_SERVERS", help="Use this broker. Default: start one."),
    ] = None,
    reshare_every: Annotated[
        float, typer.Option(min=0.01, help="Hours from the start of a run of the retraining job to that of the next.")
    ] = 24.0,
) -> None:
    """Run everything on this machine until Ctrl-C: Kafka, topics, `index`, `neighbours`, `rank` and `reshare`.

    For trials and small shops. The first release needs no data, so it ranks within a minute of the first items. Data,
    releases and logs are in the data folder and stay for the next start. Needs the `train` extra.

    Example: anabranch standalone
    """
    from anabranch.console import output_console
    from anabranch.harness.environment.command import prepare_command
    from anabranch.harness.standalone import StandaloneOptions, run
    from anabranch.shutdown import stop_on_signals

    settings = settings_of(ctx, bootstrap_servers=bootstrap_servers)
    prepare_command()
    run(StandaloneOptions(bootstrap_servers, reshare_every), settings, output_console(), stop_on_signals())
