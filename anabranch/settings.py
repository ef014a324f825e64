"""One frozen `Settings`, read once at the edge: defaults < TOML file < ANABRANCH_* environment < command line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta, Struct

from anabranch.errors import SettingsError

PREFIX = "ANABRANCH_"
NOT_SETTINGS = frozenset({"ANABRANCH_CONFIG", "ANABRANCH_BENCHMARK_DATA"})
"""Variables of the same prefix that mean something elsewhere: the TOML file's path, the benchmarks' data."""
UNDER_DATA_DIR = Path("<data_dir>/releases")

Count = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
TopicPrefix = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{0,100}$")]


class Secret:
    """A string that never shows in a repr, a log or an error; `reveal()` is the only way to it."""

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class Settings(Struct, frozen=True, kw_only=True):
    """Everything a process may be told. Every field is a TOML key, and upper-cased after ANABRANCH_ a variable."""

    bootstrap_servers: Annotated[str, Meta(pattern=r"^[^\s,]+:\d+(,[^\s,]+:\d+)*$")] = "127.0.0.1:9092"
    """host:port, several separated by commas."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: Secret | None = None
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_key_password: Secret | None = None
    ssl_check_hostname: bool = True

    topic_prefix: TopicPrefix = ""
    """Goes before every topic and consumer group, so that several Anabranches share a broker."""
    partitions: Count = 4
    replication_factor: Count = 1
    retention_days: Annotated[float, Meta(gt=0)] = 30.0
    """How long events, rankings, feedback and dead letters are kept. A user state is restored from what is kept."""
    max_message_bytes: Annotated[int, Meta(ge=1024, le=100_000_000)] = 1_048_576

    client_id: str = "anabranch"
    ranker_group: str = "anabranch-ranker"
    indexer_group: str = "anabranch-indexer"
    reshare_group: str = "anabranch-reshare"
    dead_letter_group: str = "anabranch-dead-letters"
    """Its committed offsets say which dead letters have been replayed."""
    instance: str | None = None
    """A name that outlives a restart, such as the pod's: the new process then ends its forerunner's open
    transaction at once instead of waiting for its time-out. Two living processes must never share one."""
    start: Literal["latest", "earliest"] = "latest"
    """Where a ranker group without committed offsets begins to rank; what stands before is folded into user states."""

    linger_ms: Annotated[int, Meta(ge=0, le=10_000)] = 20
    """How long, at most, a batch waits for more events while the one before it is being published."""
    batch_max: Annotated[int, Meta(ge=1, le=65_536)] = 2048
    slate_size: Annotated[int, Meta(ge=1, le=1000)] = 20
    rank: Literal["every", "latest"] = "every"
    """every: one ranking for every event. latest: one for each user of a batch, after their last event in it, which
    under load is fewer. Every event has its feedback, joined with the slate that was published last."""
    retrieve: Count = 100
    """Items asked of the index for each ranking."""
    neighbours: Count = 20
    """Neighbours of each recent item that are proposed. `reshare` publishes as many; more help where texts count."""
    discover: bool = False
    """Leave out what the user has already had."""
    session_repeats: bool = False
    """Rank what the session holds too: where people go back and forth between items. `reshare` reads it as well."""
    publish_purchase: bool = False
    """Say in each ranking how probable it is that the user buys each of its items, if the release has that head."""
    history_length: Count = 64
    """Newest events kept of each user; who has fewer takes less memory."""
    own_items: Count = 128
    """Items kept, as decayed counts, of what the history has no room for any more."""
    checkpoint_ms: Annotated[int, Meta(ge=0)] = 5_000
    """How long a user state may be ahead of its saved form. Less: shorter restores; more: fewer writes."""
    max_users: Count = 200_000
    """User states in memory; those of idle users are left to the log and read back at their next event.
    `anabranch inspect state` says how much memory that is."""
    processing_guarantee: Literal["exactly_once", "at_least_once"] = "exactly_once"
    """at_least_once publishes without transactions: a crash may publish rankings twice."""
    dedupe_window: Annotated[int, Meta(ge=1, le=65_536)] = 16
    """Newest event ids kept of each user: an event among them is a duplicate. Each costs 8 bytes a user."""
    threads: Count = 2
    """Threads that rank the parts of a batch beside one another, of 64 events each; the indexer's in a model."""

    compression: Literal["none", "gzip", "lz4", "zstd"] = "lz4"
    transaction_timeout_ms: Annotated[int, Meta(ge=1000, le=900_000)] = 10_000
    """How long the broker keeps a dead ranker's transaction open, which holds back readers of committed messages."""
    session_timeout_ms: Annotated[int, Meta(ge=1000)] = 10_000
    """How long a ranker may be silent before its partitions go to another."""

    data_dir: Path = Path(".anabranch")
    releases_dir: Path = UNDER_DATA_DIR
    metrics_host: str = "127.0.0.1"
    metrics_port: Port | None = None
    """None: no metrics are served; 0: on any free port, which the log names."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    def __post_init__(self) -> None:
        if self.releases_dir == UNDER_DATA_DIR:
            msgspec.structs.force_setattr(self, "releases_dir", self.data_dir / "releases")

    def group(self, role: Literal["ranker", "indexer", "reshare", "dead_letter"]) -> str:
        """The consumer group of a role, under the topic prefix."""
        return f"{self.topic_prefix}{getattr(self, f'{role}_group')}"

    def public(self) -> dict[str, Any]:
        """Every setting as JSON values, secrets blotted out."""
        return {name: _public(getattr(self, name)) for name in self.__struct_fields__}


def load(path: Path | None, env: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings from a TOML file, the environment and the command line, the later ones winning.

    `overrides` that are None were not given. Raises `SettingsError` with every problem at once.
    """
    problems: list[str] = []
    given: dict[str, tuple[str, Any]] = {}
    for source, name, value in _sources(path, env, overrides or {}, problems):
        if name in FIELDS:
            given[name] = (source, value)
        else:
            problems.append(f"{source} is no setting{_suggest(source, name)}")
    values = {name: _convert(name, *entry, problems) for name, entry in given.items()}
    settings = Settings(**{name: value for name, value in values.items() if value is not INVALID})
    problems.extend(_contradictions(settings))
    if problems:
        raise SettingsError(problems)
    return settings


INVALID = object()
FIELDS: dict[str, Any] = get_type_hints(Settings, include_extras=True)
SECRETS = frozenset({"sasl_password", "ssl_key_password"})


def _sources(
    path: Path | None, env: Mapping[str, str], overrides: Mapping[str, Any], problems: list[str]
) -> Iterator[tuple[str, str, Any]]:
    """Every given value as (how the user calls it, field, value), weakest source first."""
    for name, value in _read_toml(path, problems).items():
        yield f"{name} in {path}", name, value
    for variable, value in env.items():
        if variable.startswith(PREFIX) and variable not in NOT_SETTINGS:
            yield variable, variable.removeprefix(PREFIX).lower(), value
    for name, value in overrides.items():
        if value is not None:
            yield f"--{name.replace('_', '-')}", name, value


def _read_toml(path: Path | None, problems: list[str]) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append(f"{path} cannot be read as TOML: {error}")
        return {}


def _convert(name: str, source: str, value: Any, problems: list[str]) -> Any:
    """The value as the field's type; INVALID, and a line in `problems`, where it is none."""
    if name in SECRETS:
        if isinstance(value, str):
            return Secret(value)
        problems.append(f"{source} must be a string (its value is not shown)")
        return INVALID
    try:
        return msgspec.convert(value, FIELDS[name], strict=False, dec_hook=_decode_path)
    except (msgspec.ValidationError, ValueError) as error:
        problems.append(f"{source} = {str(value)!r}: {_explain(str(error))}; {_remedy(name)}")
        return INVALID


def _decode_path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"expected {kind.__name__.lower()}")


def _explain(message: str) -> str:
    return message[:1].lower() + message[1:]


def _remedy(name: str) -> str:
    default = getattr(DEFAULTS, name)
    return f"leave it out for {default}" if default is not None else "leave it out if you do not need it"


def _suggest(source: str, name: str) -> str:
    close = get_close_matches(name, FIELDS, n=1)
    if not close:
        return "; `anabranch inspect settings` lists them all"
    spelled = f"{PREFIX}{close[0].upper()}" if source.startswith(PREFIX) else close[0]
    return f"; did you mean {spelled}?"


def _contradictions(settings: Settings) -> Iterator[str]:
    """Settings that hold alone but not together."""
    sasl = settings.security_protocol.startswith("SASL")
    if sasl and (settings.sasl_mechanism is None or settings.sasl_username is None or settings.sasl_password is None):
        yield (
            f"security_protocol {settings.security_protocol} needs sasl_mechanism, sasl_username and sasl_password; "
            "set all three"
        )
    if not sasl and settings.sasl_password is not None:
        yield (
            f"sasl_password is given but security_protocol is {settings.security_protocol}, which would not use it; "
            "set security_protocol to SASL_SSL"
        )
    if settings.ssl_keyfile is not None and settings.ssl_certfile is None:
        yield "ssl_keyfile is given without ssl_certfile; give both"
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        path = getattr(settings, name)
        if path is not None and not path.is_file():
            yield f"{name} = {str(path)!r}: there is no such file; correct the path"


def _public(value: Any) -> Any:
    if isinstance(value, Secret):
        return "…"
    return str(value) if isinstance(value, Path) else value


DEFAULTS = Settings()
