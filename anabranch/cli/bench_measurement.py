"""What every command of `anabranch bench` does: open the fixture, measure, and print the figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from anabranch.cli.output import show_json

if TYPE_CHECKING:
    from anabranch.harness.bench.fixture import BenchFixture


def measure(
    ctx: typer.Context,
    data_dir: Path,
    options: Any,
    target: Path | None,
    run: Callable[[BenchFixture], dict[str, Any]],
) -> None:
    """Open the fixture, measure, and print the figures."""
    from anabranch.harness.bench.fixture import open_fixture

    with open_fixture(bench_settings(ctx, data_dir), options) as fixture:
        show_json(run(fixture), target)


def bench_settings(ctx: typer.Context, data_dir: Path) -> Any:
    """The settings, with everything in the benchmarks' folder."""
    from anabranch.cli.options import settings_of
    from anabranch.harness.environment.command import prepare_command

    prepare_command()
    folder = data_dir.resolve()
    return settings_of(ctx, data_dir=str(folder), releases_dir=str(folder / "releases"))
