"""Reads `Settings` from a TOML file, the environment and the command line, and reports every problem at once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from anabranch import own_event_types, placements
from anabranch.errors import SettingsError
from anabranch.settings import DEFAULTS, MAX_BLOCKS, MAX_IMPRESSION_ITEMS, Secret, Settings

PREFIX = "ANABRANCH_"
NOT_SETTINGS = frozenset({"ANABRANCH_CONFIG", "ANABRANCH_BENCHMARK_DATA"})
"""Variables with the prefix that are no settings: the path of the TOML file, the folder of benchmark data."""
RENAMED = {"discover": "exclude_seen", "session_repeats": "allow_session_repeats", "retrieve": "retrieval_k"}
"""Old name → today's. The old names are accepted for one version; where a source gives both, today's counts."""

FIELDS: dict[str, Any] = get_type_hints(Settings, include_extras=True)
SECRETS = ("sasl_password", "ssl_key_password")
"""Each has a setting with `_file` behind its name, for a file that holds it."""
IN_JSON = ("placements", "event_types")
"""Settings that are no single value: tables in TOML; in the environment and on the command line, JSON."""
INVALID = object()


def load(path: Path | None, env: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings from the defaults, a TOML file, the environment and the command line; later sources win.

    `overrides` are the command line's, None where an option was not given. Raises `SettingsError` with every problem.
    """
    problems: list[str] = []
    given: dict[str, tuple[str, Any]] = {}
    for source, name, value in _sources(path, env, overrides or {}, problems):
        if name in FIELDS:
            given[name] = (source, value)
        else:
            problems.append(f"{source} is not a setting{_suggest(source, name)}")
    values = {name: _convert(name, source, value, problems) for name, (source, value) in given.items()}
    settings = Settings(**{name: value for name, value in values.items() if value is not INVALID})
    problems.extend(_contradictions(settings))
    if problems:
        raise SettingsError(problems)
    return settings


def as_text(value: Any) -> str:
    """A setting's value as the environment and the command line give it: what `load` makes the same value of."""
    if isinstance(value, bool):
        return str(value).lower()
    return msgspec.json.encode(value).decode() if isinstance(value, tuple | dict) else str(value)


def _sources(
    path: Path | None, env: Mapping[str, str], overrides: Mapping[str, Any], problems: list[str]
) -> Iterator[tuple[str, str, Any]]:
    """Every value given, as (what the user calls it, field, value), the weakest source first."""
    for name, value in _old_names_first(_read_toml(path, problems)):
        yield f"{name} in {path}", RENAMED.get(name, name), value
    variables = [name for name in env if name.startswith(PREFIX) and name not in NOT_SETTINGS]
    for name, variable in _old_names_first({name.removeprefix(PREFIX).lower(): name for name in variables}):
        yield variable, RENAMED.get(name, name), env[variable]
    for name, value in _old_names_first(overrides):
        if name in SECRETS:
            problems.append(
                f"--set {name}=… shows the secret to whoever lists this machine's processes; set "
                f"{PREFIX}{name.upper()}, or {name}_file to a file that holds it"
            )
        elif value is not None:
            yield f"--{name.replace('_', '-')}", RENAMED.get(name, name), value


def _old_names_first(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(values.items(), key=lambda item: item[0] not in RENAMED)


def _read_toml(path: Path | None, problems: list[str]) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append(f"{path} cannot be read as TOML: {error}")
        return {}


def _convert(name: str, source: str, value: Any, problems: list[str]) -> Any:
    """The value in the field's type; if it has none, INVALID, and a line in `problems`."""
    if name in SECRETS:
        if isinstance(value, str):
            return Secret(value)
        problems.append(f"{source} must be a string (its value is not shown)")
        return INVALID
    try:
        if name in IN_JSON and isinstance(value, str):
            return msgspec.json.decode(value, type=FIELDS[name])
        return msgspec.convert(value, FIELDS[name], strict=False, dec_hook=_decode_path)
    except (msgspec.DecodeError, ValueError) as error:
        reason = str(error).replace("JSON is malformed", "malformed JSON")
        problems.append(f"{source} = {str(value)!r}: {reason[:1].lower()}{reason[1:]}; {_remedy(name)}")
        return INVALID


def _decode_path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"expected {kind.__name__.lower()}")


def _remedy(name: str) -> str:
    default = getattr(DEFAULTS, name)
    return "leave it out if you do not need it" if default is None else f"leave it out for {as_text(default)}"


def _suggest(source: str, name: str) -> str:
    close = get_close_matches(name, FIELDS, n=1)
    if not close:
        return "; `anabranch inspect settings` lists them all"
    spelled = f"{PREFIX}{close[0].upper()}" if source.startswith(PREFIX) else close[0]
    return f"; did you mean {spelled}?"


def _contradictions(settings: Settings) -> Iterator[str]:
    """Settings that are valid alone but not together."""
    uses_sasl = settings.security_protocol.startswith("SASL")
    password = settings.sasl_password or settings.sasl_password_file
    if uses_sasl and None in (settings.sasl_mechanism, settings.sasl_username, password):
        yield (
            f"security_protocol {settings.security_protocol} needs sasl_mechanism, sasl_username and sasl_password or "
            "sasl_password_file; set all three"
        )
    if not uses_sasl and password is not None:
        yield (
            f"sasl_password is given but security_protocol is {settings.security_protocol}, which would not use it; "
            "set security_protocol to SASL_SSL"
        )
    for name in SECRETS:
        if getattr(settings, name) is not None and getattr(settings, f"{name}_file") is not None:
            yield f"{name} and {name}_file are both given; give one"
    yield from placements.contradictions(settings.placements)
    yield from own_event_types.contradictions(settings.event_types)
    if settings.explore_places > settings.slate_size // 4:
        yield (
            f"explore_places {settings.explore_places} is more than a quarter of slate_size {settings.slate_size}; "
            f"lower it to {settings.slate_size // 4}, or raise slate_size"
        )
    if settings.explore_new_items and not settings.explore_places:
        yield (
            f"explore_new_items {settings.explore_new_items} without explore_places would explore nothing; set "
            "explore_places to at least 1"
        )
    places = min(settings.slate_size * len(settings.placements), MAX_IMPRESSION_ITEMS)
    if any(placement.rotation for placement in settings.placements) and settings.impression_items < places:
        yield (
            f"impression_items {settings.impression_items} is less than the places of all slates, so that "
            f"items would be forgotten before they rest; raise it to at least {places}"
        )
    if settings.neighbours_shard >= settings.neighbours_shards:
        yield (
            f"neighbours_shard {settings.neighbours_shard} is none of the {settings.neighbours_shards} of "
            f"neighbours_shards, which count from 0; set it to {settings.neighbours_shards - 1} or less, or raise "
            "neighbours_shards"
        )
    for name in ("history_length", "own_items"):
        users, length = settings.max_users, getattr(settings, name)
        blocks = users * -(-length // 8)
        if blocks > MAX_BLOCKS:
            yield (
                f"max_users {users} with {name} {length} needs {blocks} blocks of memory, more than {MAX_BLOCKS}; "
                "lower one of the two"
            )
    if settings.ssl_keyfile is not None and settings.ssl_certfile is None:
        yield "ssl_keyfile is given without ssl_certfile; give both"
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile", *(f"{name}_file" for name in SECRETS)):
        path = getattr(settings, name)
        if path is not None and not path.is_file():
            yield f"{name} = {str(path)!r}: there is no such file; correct the path"
