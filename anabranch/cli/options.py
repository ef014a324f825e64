"""Settings from the command line: the options before the command, and the command's own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from anabranch.errors import UsageError
from anabranch.private_files import protect
from anabranch.settings import Settings
from anabranch.settings_loader import load

OLD_NAMES = {
    "seed": "random-seed",
    "discover": "exclude-seen",
    "echo-batch": "noop-batch",
    "echo": "noop-baseline",
}
"""Old name of an option or a command → its name. Old names work in this version; `--help` does not list them."""


def current_name(name: str) -> str:
    """The name that an option or a command has now: Click's `token_normalize_func`, which gets names without dashes."""
    return OLD_NAMES.get(name, name)


@dataclass(frozen=True)
class GlobalOptions:
    """The options before the command."""

    config: Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Setting → value."""

    @classmethod
    def parse(cls, config: Path | None, named: Mapping[str, Any], pairs: Sequence[str]) -> GlobalOptions:
        """From options with names of their own, None where not given, and NAME=VALUE pairs. Raises `UsageError`."""
        overrides = {name: value for name, value in named.items() if value is not None}
        for pair in pairs:
            name, equals, value = pair.partition("=")
            if not equals:  # the pair is not shown: it may hold a secret
                raise UsageError("--set takes NAME=VALUE, such as --set linger_ms=5; one of them has no =")
            overrides[name.strip()] = value
        return cls(config, overrides)


def settings_of(ctx: typer.Context, **overrides: Any) -> Settings:
    """The settings of this command line. `overrides` are the command's own options, None where not given.

    What the process creates from now on is private, and so is the data folder. Raises `SettingsError`.
    """
    options = ctx.obj if isinstance(ctx.obj, GlobalOptions) else GlobalOptions()
    own = {name: value for name, value in overrides.items() if value is not None}
    settings = load(options.config, os.environ, {**options.overrides, **own})
    protect(settings.data_dir)
    return settings
