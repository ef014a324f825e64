"""The ranker's peers, as far as they need no broker and nothing that the project does not depend on."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from anabranch import messages
from anabranch.messages import Event
from anabranch.ranking.vocabulary import ItemVocabulary
from tests.benchmarks.peers.compare import OURS, freshness_s, show
from tests.benchmarks.peers.peer import Peer
from tests.benchmarks.peers.transformer import network
from tests.benchmarks.peers.updaters import Als
from tests.benchmarks.peers.work import Served, Work
from tests.support.releases import live_release, write_release


def test_an_event_waits_half_a_period_and_then_for_the_update() -> None:
    assert freshness_s(10.0, 3600.0) == 1810
    assert freshness_s(10.0) == 15, "the next update begins when the one before ends"
    assert freshness_s(10.0, 4.0) == 15, "and no sooner"


def test_a_peer_that_is_not_installed_says_what_to_do() -> None:
    here = Path(sys.executable)
    assert Peer("numpy", "quix", "", "numpy", here).missing() is None
    assert "make peers" in (Peer("nothing", "quix", "", "no_such_package", here).missing() or "")
    assert "make peers" in (Peer("nowhere", "quix", "", "numpy", here / "python").missing() or "")


def test_what_a_process_is_to_do_comes_back_from_its_file(tmp_path: Path) -> None:
    work = Work("store", "peer-0", {0: 3, 1: 0}, 100, "rankings-0", str(tmp_path), 10)
    assert msgspec.json.decode(work.write().read_bytes(), type=Work) == work


@pytest.mark.parametrize("fold_in", [True, False])
def test_a_user_s_slate_knows_of_the_batch(fold_in: bool) -> None:
    events = [_event(f"u{user}", f"i{user % 2}{item}") for user in range(20) for item in range(5)]
    bought = [_event("u0", f"i1{item}") for item in range(5)]
    als = Als([*events, *bought], fold_in)
    als.update(events)
    assert set(als.slates(["u0"])[0][0][:5]) == {f"i0{item}" for item in range(5)}
    for _ in range(3):
        als.update(bought)
    assert set(als.slates(["u0"])[0][0][:5]) == {f"i1{item}" for item in range(5)}


def test_the_transformer_ranks_items_of_the_release_best_first(tmp_path: Path) -> None:
    write_release(tmp_path / "r1")
    item_ids = ItemVocabulary()
    served = Served(live_release(tmp_path / "r1", item_ids, [f"i{n}" for n in range(50)]), item_ids, 20)
    assert network(served).item.weight.shape == (50, served.live.index.dims)
    rows, scores = np.arange(50, dtype=np.int32), np.arange(50, dtype=np.float32)
    message = messages.rankings.decode(served.ranking(_event("u", "i"), 1, 2, rows, scores))
    assert [item.item_id for item in message.slate] == [f"i{n}" for n in range(49, 29, -1)]
    assert (message.cause.partition, message.cause.offset) == (1, 2)


def test_the_table_has_speed_ratio_and_what_was_left_out() -> None:
    console = Console(width=160, record=True, file=StringIO())
    spread = {"mean": 9_000.0, "sd": 90.0}
    found = {name: {OURS: spread} for name in ("rankings_per_second", "events_per_second")}
    found["ours_against"] = {OURS: {"mean": 1.0, "sd": 0.0}}
    show(found | {"freshness_s": {}, "skipped": {"rtrec": "not there"}}, console)
    text = console.export_text()
    assert "9,000 ± 90" in text and "1 ± 0" in text and "rtrec skipped: not there" in text


def _event(user: str, item: str) -> Event:
    return Event(event_id=f"{user}-{item}", user_id=user, type="purchase", ts=0, item_id=item)
