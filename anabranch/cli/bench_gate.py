"""`anabranch bench gate`."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli import bench_options as option
from anabranch.cli.output import show_json


def command(
    trials: Annotated[
        int, typer.Option(min=1, help="Simulated windows for each figure; chains of ten releases are a tenth of them.")
    ] = 200,
    random_seed: option.RandomSeed = 0,
    json: option.Json = None,
) -> None:
    """Simulate how often the release gate errs, how often it sees a gain, and what ten releases in a row keep.

    Nothing is trained, and no broker is needed.

    Example: anabranch bench gate --json gate.json
    """
    import msgspec

    from anabranch.harness.environment.command import prepare_command
    from anabranch.progress_bar import bar
    from models.experiments.gate_simulation import SimulationConfig, simulate

    prepare_command()
    config = SimulationConfig(trials=trials, random_seed=random_seed)
    with bar("Simulated windows", config.windows) as advance:
        simulation = simulate(config, advance)
    show_json(msgspec.to_builtins(simulation), json)
