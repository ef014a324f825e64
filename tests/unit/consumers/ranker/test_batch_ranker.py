from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from anabranch import release
from anabranch.messages import Event
from anabranch.metrics import RankerMetrics, Stopwatch
from anabranch.ranking.policy import Policy
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.release import ReleasePolicy
from anabranch.settings import Settings
from consumers.ranker.batch_ranker import BatchRanker
from consumers.releases.serving_model import warn_of_missing_heads
from consumers.runtime.decoding import DecodedEvent
from consumers.user_states.changelog import Changelog
from consumers.user_states.state_store import StateStore
from tests.support.in_memory_kafka import InMemoryKafka
from tests.support.releases import live_release, write_release


@pytest.mark.parametrize(("configured", "head"), [(True, False), (True, True), (False, False)])
def test_a_missing_purchase_head_is_logged_only_if_it_is_configured(
    configured: bool, head: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_release(tmp_path / "r1", purchase=head)
    warn_of_missing_heads(live_release(tmp_path / "r1", ItemVocabulary(), []), Policy(purchase=configured))
    assert ("release r1 has no purchase head" in caplog.text) is (configured and not head)


def test_each_release_ranks_by_its_own_policy(tmp_path: Path) -> None:
    settings, items = Settings(), [f"i{number}" for number in range(8)]
    store, metrics = StateStore.new(settings), RankerMetrics(CollectorRegistry())
    ranker = BatchRanker(
        settings,
        store,
        Changelog(InMemoryKafka().log_reader(), "user-state", store, settings.max_users, metrics),
        metrics,
    )

    def ranks_seen_item_again(name: str, policy: ReleasePolicy) -> bool:
        manifest = write_release(tmp_path / name, name, items)
        release.write(tmp_path / name, msgspec.structs.replace(manifest, policy=policy))
        ranker.model.swap(live_release(tmp_path / name, store.items, items))
        event = Event(event_id=name, user_id="u", item_id="i3", ts=1_000, type="view", session_id=name)
        ranked = ranker.rank([DecodedEvent(event, 0, 0, 1_000)], {0: 1}, Stopwatch(metrics.stage))
        assert ranked.result is not None
        return int(store.items.row("i3")) in ranked.result.slate[0].tolist()

    assert not ranks_seen_item_again("r1", ReleasePolicy())
    assert ranks_seen_item_again("r2", ReleasePolicy(allow_session_repeats=True))
    ranker.close()
