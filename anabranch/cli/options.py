"""The settings a command line gives, before and after the command's own options."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from anabranch.errors import UsageError
from anabranch.settings import Settings
from anabranch.settings_loader import load


@dataclass(frozen=True)
class Given:
    """What stood before the command."""

    config: Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, config: Path | None, own: Mapping[str, Any], pairs: Sequence[str]) -> Given:
        """Options by name, and NAME=VALUE pairs. Raises `UsageError`."""
        overrides = {name: value for name, value in own.items() if value is not None}
        for pair in pairs:
            name, equals, value = pair.partition("=")
            if not equals:
                raise UsageError("--set takes NAME=VALUE, such as --set linger_ms=5, and one here has no =")
            overrides[name.strip()] = value
        return cls(config, overrides)


def settings_of(ctx: typer.Context, **overrides: Any) -> Settings:
    """The settings of this command line; `overrides` are the command's own options, None where not given.

    Raises `SettingsError`.
    """
    given = ctx.obj if isinstance(ctx.obj, Given) else Given()
    chosen = {name: value for name, value in overrides.items() if value is not None}
    return load(given.config, os.environ, {**given.overrides, **chosen})
