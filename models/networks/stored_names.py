"""Names under which release files store settings and weights that the code names differently.

A manifest or weights file written by an earlier version stays readable, and a new one has the same keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass
from typing import Any

from torch import Tensor, nn

_STORED_NAME = "stored_name"


def stored_as(name: str, default: Any) -> Any:
    """A dataclass field with a default that `stored_settings` stores under `name`."""
    return field(default=default, metadata={_STORED_NAME: name})


def stored_settings(config: Any) -> dict[str, Any]:
    """Public fields of a dataclass as a manifest stores them; a nested dataclass becomes a nested dict."""
    public = [entry for entry in fields(config) if not entry.name.startswith("_")]
    return {entry.metadata.get(_STORED_NAME, entry.name): _stored(getattr(config, entry.name)) for entry in public}


def store_weights_as(module: nn.Module, names: Mapping[str, str]) -> None:
    """Make `module` write and read its parameters under stored names.

    `names` maps an attribute of the module (a submodule or a parameter) to its stored name.
    """
    stored = dict(names)
    attributes = {name: attribute for attribute, name in stored.items()}
    module.register_state_dict_post_hook(  # type: ignore[no-untyped-call]
        lambda owner, state, prefix, metadata: _rename(state, prefix, stored)
    )
    module.register_load_state_dict_pre_hook(  # type: ignore[no-untyped-call]
        lambda owner, state, prefix, *rest: _rename(state, prefix, attributes)
    )


def _stored(value: Any) -> Any:
    return stored_settings(value) if is_dataclass(value) else value


def _rename(state: dict[str, Tensor], prefix: str, names: Mapping[str, str]) -> None:
    """Rename the entries under `prefix` in place, keeping their order."""
    entries = list(state.items())
    state.clear()
    for key, value in entries:
        attribute, dot, rest = key.removeprefix(prefix).partition(".")
        renamed = key.startswith(prefix) and attribute in names
        state[f"{prefix}{names[attribute]}{dot}{rest}" if renamed else key] = value
