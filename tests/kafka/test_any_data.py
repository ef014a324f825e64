"""The whole loop on generated small data sets: every outcome is a result or an error of ours.

Files, topics and training are real, with a tiny text transformer. The ranker is real too, on Kafka in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kafka.admin import KafkaAdminClient
from typer.testing import CliRunner

from anabranch import messages
from anabranch.cli.main import app
from anabranch.kafka import clients
from anabranch.kafka.topics import Topics, provision
from anabranch.messages import Event
from anabranch.release import open_release
from anabranch.settings import Settings
from consumers.releases.updates import SwapRelease
from models.experiments.training_options import TrainingOptions
from models.gate.release_gate import GateRule
from models.pipeline.presets import Kind
from models.retraining.job import RunResult, run_once
from models.retraining.run import JobConfig
from models.retraining.windows import WindowLengths
from tests.support.ranker_world import RankerWorld
from tests.support.releases import live_release
from tests.support.small_shops import SMALL_SHOPS, SmallShop
from tests.support.text_models import write_text_model

EXAMPLES = 10
REPEATABLE = hypothesis_settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
RANKED = 40
"""Newest events that the ranker ranks."""


@contextmanager
def no_bar(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    yield lambda n: None


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("text"), ["thing", *map(str, range(30))])


class Loop:
    """One shop's way from files to rankings."""

    def __init__(self, settings: Settings, text_model: Path) -> None:
        self.settings = settings
        self._text_model = text_model

    def command(self, *arguments: str | Path) -> bool:
        """Whether a command succeeds. Fails on an exception that is no error of ours."""
        connection = ("--bootstrap-servers", self.settings.bootstrap_servers)
        prefix = ("--topic-prefix", self.settings.topic_prefix, "--set", f"partitions={self.settings.partitions}")
        folder = ("--data-dir", self.settings.data_dir)
        result = CliRunner().invoke(app, list(map(str, (*connection, *prefix, *folder, *arguments))))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result.exit_code == 0

    def published(self) -> list[Event]:
        records = clients.read_to_end(self.settings, [Topics(self.settings).events])
        return [messages.events.decode(record.value) for record in records]

    def reshare(self, kind: Kind | None, window_days: float) -> RunResult:
        """A run of the retraining job, whose gate decides however few users there are."""
        options = TrainingOptions(threads=1, strategies="none", text_model=str(self._text_model))
        windows = WindowLengths(window_days, window_days)
        return run_once(self.settings, JobConfig(windows, kind, options.config, GateRule(users=1)), no_bar)

    def rank(self, release: str, item_ids: list[str], events: list[Event]) -> None:
        """Rank events by a release, and check every slate."""
        world = RankerWorld(self.settings.releases_dir)
        process = world.process(release=None)
        world.announce(release)
        folder = self.settings.releases_dir / release
        process.releases.updates.append(SwapRelease(live_release(folder, process.store.items, item_ids)))
        world.send(*events)
        process.settle()
        rankings = world.rankings()
        assert {ranking.cause.event_id for ranking in rankings} == {event.event_id for event in events}
        for ranking in rankings:
            slate = [item.item_id for item in ranking.slate]
            assert len(set(slate)) == len(slate)
            assert set(slate) <= set(item_ids)
            assert all(math.isfinite(item.score) for item in ranking.slate)


@pytest.fixture
def loop_of(bootstrap_servers: str, text_model: Path, tmp_path: Path) -> Callable[[], Loop]:
    """A loop with topics and folders of its own."""

    def new() -> Loop:
        name = uuid4().hex[:12]
        settings = Settings(
            bootstrap_servers=bootstrap_servers, topic_prefix=f"test-{name}.", data_dir=tmp_path / name, partitions=2
        )
        with closing(KafkaAdminClient(bootstrap_servers=bootstrap_servers)) as admin:
            provision(admin, settings)
        settings.data_dir.mkdir()
        return Loop(settings, text_model)

    return new


@hypothesis_settings(REPEATABLE)
@given(shop=SMALL_SHOPS, kind=st.sampled_from(["sessions", "baskets", "histories", None]))
def test_from_files_to_rankings_every_outcome_is_a_result_or_an_error_of_ours(
    loop_of: Callable[[], Loop], shop: SmallShop, kind: Kind | None
) -> None:
    loop = loop_of()
    events, items = shop.write(loop.settings.data_dir)
    is_readable = loop.command("check", events, items)
    has_items = loop.command("catalogue", items)
    replayed = loop.command("replay", events, "--sort", "--type", "view")
    assert is_readable or not replayed
    published = loop.published()
    assert bool(published) == replayed, "all or nothing"
    if not replayed:
        loop.command("replay", events, "--sort", "--type", "view", "--skip-faulty")
        published = loop.published()
    assert has_items

    result = loop.reshare(kind, shop.step_ms * shop.events / 86_400_000 / 5)
    trained = [] if result.gated is None else [result.gated.notice.release]
    assert trained or len(result.waiting_for or "") > 40, "it says what is missing"
    made = sorted(folder.name for folder in loop.settings.releases_dir.glob("r*"))
    assert made == ["r0001", *trained], "nothing is left of a candidate that could not be trained"
    item_ids = [item.split(",")[0] for item in items.read_text().splitlines()[1:]]
    for name in made:
        open_release(loop.settings.releases_dir / name).verify()
        loop.rank(name, item_ids, published[-RANKED:])
