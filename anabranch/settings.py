"""Everything a process is configured by, as one frozen object. `anabranch.settings_loader` reads it at the edge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from anabranch.event_types import EventType
from anabranch.own_event_types import EventTypeName
from anabranch.placements import FOR_YOU, Placement

DEFAULT_RELEASES_DIR = Path("<data_dir>/releases")

Port = Annotated[int, Meta(ge=0, le=65_535)]
Partitions = Annotated[int, Meta(ge=1, le=10_000)]
TopicPrefix = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{0,100}$")]

MAX_IMPRESSION_ITEMS = 512
MAX_BLOCKS = 2**31 - 1
"""Blocks of eight events, or of eight long-term items, that all users together have at most: their numbers have 32
bits."""


class Secret:
    """A string that never shows in a repr, a log or an error. Only `reveal()` returns it."""

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
    """Every setting. A field is a key of the TOML file, and ANABRANCH_ with its name in capitals a variable."""

    bootstrap_servers: Annotated[str, Meta(pattern=r"^[^\s,]+:\d+(,[^\s,]+:\d+)*$")] = "127.0.0.1:9092"
    """host:port; separate several by commas."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: Secret | None = None
    sasl_password_file: Path | None = None
    """A file that holds the password, in place of `sasl_password`. It is read again for every new connection, so that a
    password can change while processes run."""
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_key_password: Secret | None = None
    ssl_key_password_file: Path | None = None
    """A file that holds the password of the key, in place of `ssl_key_password`. Read at the start."""
    ssl_check_hostname: bool = True

    topic_prefix: TopicPrefix = ""
    """Prefix of every topic and consumer group, so that several installations can share a broker."""
    partitions: Partitions = 4
    """Of events, rankings, feedback, user states and dead letters. `anabranch topics repartition` adds some. A broker
    holds some 4,000 partitions in all, of all topics."""
    item_partitions: Partitions | None = None
    """Of items, item vectors, neighbours and identities, which stay as they are. None: as many as `partitions`."""
    replication_factor: Annotated[int, Meta(ge=1, le=32_767)] = 1
    """Copies of each partition. Kafka has 16 bits for the number."""
    retention_days: Annotated[float, Meta(gt=0, le=36_500)] = 30.0
    """Retention of events, rankings, feedback and dead letters. A user state is restored from these events. At most a
    century: the broker counts milliseconds."""
    max_message_bytes: Annotated[int, Meta(ge=1024, le=100_000_000)] = 1_048_576

    client_id: str = "anabranch"
    ranker_group: str = "anabranch-ranker"
    indexer_group: str = "anabranch-indexer"
    reshare_group: str = "anabranch-reshare"
    neighbours_group: str = "anabranch-neighbours"
    """Names the transactions of `anabranch neighbours`."""
    dead_letter_group: str = "anabranch-dead-letters"
    """Names the transactions that replay dead letters. Earlier versions recorded in its committed offsets which dead
    letters had been replayed: they count until the first replay, which records them on topic `replays`."""
    instance: str | None = None
    """A name that stays the same across restarts, such as the pod's. The restarted process then ends the open
    transaction of its predecessor at once, instead of after `transaction_timeout_ms`. No two running processes may
    have the same name."""
    start: Literal["latest", "earliest"] = "latest"
    """Where a ranker group without committed offsets starts to rank. Earlier events only update the user states."""
    on_lost_events: Literal["stop", "continue"] = "stop"
    """What a ranker does if `events` no longer has what the group needs of it, because it was trimmed, truncated or
    created again. stop: end with an error that says what is lost. continue: log and count what is lost, and rank what
    the log has."""

    linger_ms: Annotated[int, Meta(ge=0, le=10_000)] = 20
    """Longest time a batch waits for more events while the previous batch is being published."""
    batch_max: Annotated[int, Meta(ge=1, le=65_536)] = 2048
    """Most events of a batch, which is one transaction: an abort repeats all of it."""
    slate_size: Annotated[int, Meta(ge=1, le=1000)] = 20
    """Items of a ranking. At most 1,000: the slate is in each ranking's message and in each user's state."""
    explore_places: Annotated[int, Meta(ge=0, le=250)] = 0
    """Last places of every slate that are drawn at random from the next best candidates, 25 for each place, so that
    feedback says how likely the item was shown and `reshare` can estimate what another release is worth. 0: none. At
    most a quarter of `slate_size`: what users are shown gets worse with every such place."""
    explore_new_items: Annotated[int, Meta(ge=0, le=25)] = 0
    """How many of the 25 candidates of an explored place are new items, whose popularity is not published yet: those
    nearest to the user. On average a slate shows at most `explore_places` * `explore_new_items` / 25 items that it
    would not show otherwise."""
    placements: Annotated[tuple[Placement, ...], Meta(min_length=1, max_length=8)] = (FOR_YOU,)
    """Where slates are shown: a list of tables with `name`, `repeats` (allow, only, never), `without` (names of
    placements before it whose items it leaves out), `at_most`, `calibration` and `rotation`; in a variable or with
    --set, as JSON. A ranking's `slate` is that of the first, its `slates` are those of the others."""
    rank: Literal["every", "latest"] = "every"
    """every: one ranking for every event. latest: one ranking for every user in a batch, after the user's last event
    in it, which is fewer under load. Both publish feedback for every event, joined with the last published slate."""
    retrieval_k: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """Items retrieved from the vector index for each ranking. At most 10,000: every one of them is scored for
    every event."""
    neighbours: Annotated[int, Meta(ge=1, le=400)] | None = None
    """Co-visited items proposed for each recent item, at most; as many are published. None: what the release
    says, which follows from the kind of data. At most 400, which fit
    into a message even with ids of 512 characters."""
    live_neighbours: bool = True
    """Whether `anabranch neighbours` publishes the co-visit table, as events come. False: each run of `reshare` does,
    and `neighbours` is not needed. All processes must have the same value."""
    neighbours_shards: Annotated[int, Meta(ge=1, le=256)] = 1
    """Processes of `anabranch neighbours` that share the items, each with a `neighbours_shard` of its own. At most 256:
    every one of them reads all events."""
    neighbours_shard: Annotated[int, Meta(ge=0, le=255)] = 0
    """Which share of the items this process counts and publishes, from 0 to `neighbours_shards` - 1."""
    min_pair_users: Annotated[int, Meta(ge=1, le=64)] = 3
    """Users that two items need in common before one is published as the other's neighbour, and an item before its
    popularity is published. With 1, neighbours can show what a single user did; a small shop has more of them."""
    gate_tolerates: Annotated[str, Meta(pattern=r"^([^,]+(,[^,]+)*)?$")] = ""
    """Slices, separated by commas, on which the gate of `reshare` reports a loss and does not reject a release for it,
    such as `new_to_user,cold_items`; a further placement is `placement:NAME`. None by default."""
    exclude_seen: bool | None = None
    """Whether items that the user has already interacted with are never ranked. None: what the release says."""
    allow_session_repeats: bool | None = None
    """Whether items of the current session are ranked too, for data where users return to items. None: what the release
    says. `reshare` reads these three settings as well."""
    publish_purchase: bool = False
    """Add the purchase probability of every item to each ranking, if the release has a purchase head."""
    history_length: Annotated[int, Meta(ge=1, le=4096)] = 64
    """Newest events kept for each user. A user with fewer events takes less memory. At most 4,096: every ranking reads
    all of them, and the whole state, saved, has to fit into a message."""
    own_items: Annotated[int, Meta(ge=1, le=4096)] = 128
    """Long-term items kept for each user, as decayed counts of the events that left the history. At most 4,096, as for
    `history_length`."""
    impression_items: Annotated[int, Meta(ge=1, le=MAX_IMPRESSION_ITEMS)] = 64
    """Items kept for each user that impressions showed and that the user has not taken since, while any placement has a
    `rotation`. When there is no room, the one shown longest ago is forgotten: where a user is shown more items than
    this again and again, none of them ever rests. 9 bytes per user and item. At most 512: every candidate is compared
    with all of them."""
    disliked_items: Annotated[int, Meta(ge=1, le=4096)] = 16
    """Items kept for each user that the user does not want to see again; then the first one may be shown again. 4 bytes
    per user and item. At most 4,096, as for `history_length`."""
    checkpoint_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 5_000
    """Longest time between a change of a user state and its save. Shorter: faster restores. Longer: fewer writes. At
    most a day: a restart replays the events of this time."""
    state_format: Literal[1, 2] = 2
    """The format of saved user states that rankers write; both are read. The default is one that the version of
    Anabranch before this one reads, so that going back to it works."""
    max_users: Annotated[int, Meta(ge=1, le=100_000_000)] = 200_000
    """User states in memory. States of idle users stay in the changelog only and are read back at their next event.
    `anabranch inspect state` prints how much memory this takes. At most 100 million, and fewer with a long history or
    many long-term items: all users together have at most `MAX_BLOCKS` blocks of eight of either."""
    processing_guarantee: Literal["exactly_once", "at_least_once"] = "exactly_once"
    """at_least_once publishes rankings outside transactions: they are visible sooner, and a crash can publish them
    twice. User states are saved by transactions in both cases."""
    dedupe_window: Annotated[int, Meta(ge=1, le=65_536)] = 16
    """Newest event ids kept for each user. An event with one of these ids is a duplicate. 8 bytes per user and id. At
    most 65,536: every event is compared with all of them, and the whole state, saved, has to fit into a message."""
    threads: Annotated[int, Meta(ge=1, le=256)] = 2
    """Threads. A ranker ranks parts of 64 events of a batch in parallel; the indexer runs its models on them. At most
    256: the largest batches have no more parts that are worth a thread."""

    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    transaction_timeout_ms: Annotated[int, Meta(ge=1000, le=900_000)] = 10_000
    """How long the broker keeps the transaction of a dead ranker open. Meanwhile, consumers that read committed
    messages wait at it."""
    session_timeout_ms: Annotated[int, Meta(ge=1000, le=1_800_000)] = 10_000
    """How long a ranker may send no heartbeat before its partitions go to another. At most half an hour: brokers refuse
    more (`group.max.session.timeout.ms`)."""

    event_types: Annotated[dict[EventTypeName, EventType], Meta(max_length=256)] = {}
    """A shop's own event types: name → which of our types it is, such as {wishlist = "like"}; in a variable or with
    --set, as JSON. `anabranch collect` and the commands that read files of events put our type in place of the name,
    whatever its case. On the topic `events` there are only our types."""
    collect_host: str = "127.0.0.1"
    """Address on which `anabranch collect` takes events. On any that other machines reach, it needs `api_keys_file`."""
    collect_port: Port = 8000
    """0: any free port, which the log names."""
    collect_body_bytes: Annotated[int, Meta(ge=1024, le=100_000_000)] = 1_048_576
    """Largest body of a request to `anabranch collect`."""
    collect_event_bytes: Annotated[int, Meta(ge=256, le=100_000_000)] = 32_768
    """Largest event that `anabranch collect` takes, as its JSON arrives. With 4,096 bytes of key and framing it has to
    fit into `max_message_bytes`."""
    collect_max_events: Annotated[int, Meta(ge=1, le=100_000)] = 1_000
    """Events of a request, at most."""
    collect_requests_in_flight: Annotated[int, Meta(ge=1, le=100_000)] = 256
    """Requests that `anabranch collect` reads or whose events wait for the broker. Further ones are answered with 503
    at once. At most 1,000 connections are open, whatever this is."""
    collect_bytes_in_flight: Annotated[int, Meta(ge=1024, le=100_000_000_000)] = 67_108_864
    """Bytes of the bodies of these requests, or of what is published of a request if that is more. With events decoded
    and encoded, memory grows by about five times as many."""
    collect_item_key: Annotated[str, Meta(pattern=r"^[\w-]{1,64}(,[\w-]{1,64}){0,7}$")] = "product_id,item_id"
    """Which field of a product is the item's id, in events of Segment and GA4: the first of these, separated by commas,
    that the product has. All products have to be named as the items on `items` are."""
    collect_key_events_per_s: Annotated[float, Meta(ge=1, le=1_000_000)] | None = None
    """Events that an API key may send in a second to one process of `anabranch collect`, on average: further requests
    are answered with 429. Without `api_keys_file`, all clients together have so many. None: no limit."""
    serve_host: str = "127.0.0.1"
    """Address on which `anabranch serve` answers requests. On any that other machines reach, it needs
    `api_keys_file`."""
    serve_port: Port = 8001
    """0: any free port, which the log names."""
    serve_requests_in_flight: Annotated[int, Meta(ge=1, le=100_000)] = 256
    """Requests that `anabranch serve` works on. Further ones are answered with 503 at once."""
    serve_streams: Annotated[int, Meta(ge=0, le=900)] = 200
    """Streams of slates (`GET /v1/stream/users/{id}`) that are open at once; further ones are answered with 503. Each
    is one of the 1,000 connections."""
    api_keys_file: Path | None = None
    """The API keys that may call `anabranch collect` and `anabranch serve`: `anabranch keys create` adds one. It is
    read again when it changes. None: everybody may, and both listen on loopback addresses alone."""
    allowed_origins: Annotated[str, Meta(pattern=r"^(https?://[^\s,/]+(,https?://[^\s,/]+)*)?$")] = ""
    """Web sites whose pages may call both from browsers (CORS), separated by commas, such as
    https://shop.example,https://www.shop.example. None by default."""

    data_dir: Path = Path(".anabranch")
    releases_dir: Path = DEFAULT_RELEASES_DIR
    metrics_host: str = "127.0.0.1"
    metrics_port: Port | None = None
    """None: serve no metrics. 0: any free port, which the log names. `/ready` and `/health` are on it too."""
    ready_max_lag: Annotated[int, Meta(ge=0)] = 10_000
    """A ranker or an indexer is ready if it is at most so many messages behind the end of each partition."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    def __post_init__(self) -> None:
        if self.releases_dir == DEFAULT_RELEASES_DIR:
            msgspec.structs.force_setattr(self, "releases_dir", self.data_dir / "releases")

    def group(self, role: Literal["ranker", "indexer", "reshare", "neighbours", "dead_letter"]) -> str:
        """Name of a role's consumer group, with the topic prefix."""
        return f"{self.topic_prefix}{getattr(self, f'{role}_group')}"

    def public(self) -> dict[str, Any]:
        """Every setting as a JSON value, secrets redacted."""
        return {name: _public(getattr(self, name)) for name in self.__struct_fields__}


def _public(value: Any) -> Any:
    if isinstance(value, Secret):
        return "…"
    return str(value) if isinstance(value, Path) else msgspec.to_builtins(value)


DEFAULTS = Settings()
