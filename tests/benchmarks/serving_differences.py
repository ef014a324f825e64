"""`python -m tests.benchmarks.serving_differences RELEASE`: how much what offline and online still differ in is worth.

`RELEASE` is the folder of a trained release, such as one of `anabranch demo`. It ranks the last days of purchases of
The Complete Journey, once as the offline run does, and once for each difference as a ranker may.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from anabranch.co_visit.text_prior import NO_TEXTS
from anabranch.placements import EACH_CLASS
from anabranch.ranking.pipeline.feedback import NO_SLATE
from anabranch.ranking.pipeline.rank import rank
from anabranch.ranking.retrieval import ann_index
from anabranch.ranking.retrieval.ann_index import AnnIndex
from anabranch.ranking.retrieval.query_sample import SAMPLE_SIZE
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.release import Release, open_release
from anabranch.settings import DEFAULTS
from models.data.event_batches import event_batches
from models.data.event_log import EventLog
from models.data.excluded_items import SlateRules
from models.data.history import visits
from models.evaluation.slices import repeats
from models.metrics.bootstrap import paired_interval
from models.metrics.ranking import Ranks, discounted_gains, ndcg_at, recall_at
from models.offline.offline_ranker import (
    OfflineRanker,
    Playback,
    load_servable,
    neighbour_table,
    rank_events,
)
from models.pipeline.presets import preset
from producers import completejourney

K = 20
BATCHES = (8, 64, 2048)
EVENTS_OF_A_TABLE = 256
"""After so many events a live co-visit table is made anew."""
DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True)
class Shop:
    """Purchases, the first row to rank, and the release that ranks them."""

    log: EventLog
    start: int
    ranker: OfflineRanker

    @classmethod
    def open(cls, release: Release, households: int, weeks: int, days: float, cache: Path) -> Shop:
        """The first `weeks` of some households; the last `days` are ranked."""
        purchases = completejourney.purchases(0, (1, weeks)).of_households(households, 0)
        bought = purchases.bought()
        items = [item for item in completejourney.catalogue() if item.item_id in bought]
        log = EventLog.from_events(purchases.events(), [item.item_id for item in items])
        start = int(np.searchsorted(log.ts, log.ts[-1] - int(days * DAY_MS)))
        rules = SlateRules.from_settings(DEFAULTS, release.manifest.policy)
        item_ids, width = ItemVocabulary(), rules.policy.neighbours
        live = load_servable(release, item_ids, items, cache)
        table = preset("baskets").co_visit_model(NO_TEXTS).fit(log.take(slice(0, start))).table(width)
        neighbours = neighbour_table(table, item_ids, log, width)
        return cls(log, start, OfflineRanker(live, neighbours, item_ids, rules.policy, rules.layout))

    @property
    def placed(self) -> OfflineRanker:
        """The ranker with a placement for what is new to the user."""
        names = tuple(placement.name for placement in EACH_CLASS)
        policy = replace(self.ranker.policy, placements=EACH_CLASS)
        return replace(self.ranker, policy=policy, layout=self.ranker.layout._replace(placements=names))


def ranks_by_batch(shop: Shop, size: int) -> tuple[Ranks, float]:
    """Ranks of a ranker that ranks the latest event of each user in batches of `size`, and the share that it ranks."""
    policy, after = replace(shop.ranker.policy, latest=True), shop.log.take(slice(shop.start, None))
    playback = Playback(shop.ranker, shop.log.take(slice(0, shop.start)))
    batches = event_batches(after, playback.states, shop.ranker.item_ids, size, shop.start + 1)
    results = [rank(shop.ranker.live, shop.ranker.neighbours, playback.states, batch, policy) for batch in batches]
    ranks = np.concatenate([result.feedback.rank for result in results])
    return ranks, float(np.concatenate([result.ranked for result in results]).mean())


def by_batch(shop: Shop) -> Iterator[str]:
    """`rank=latest` against an idle ranker, on the events that have a slate in both."""
    idle = ranks_by_batch(shop, 1)[0]
    for size in BATCHES:
        ranks, share = ranks_by_batch(shop, size)
        both = (ranks != NO_SLATE) & (idle != NO_SLATE)
        yield f"rank=latest, batches of {size}: {share:.1%} of the events are ranked; {_change(ranks, idle, both)}"


def ranks_with_table(shop: Shop, is_live: bool) -> Ranks:
    """Ranks [M, P] with the co-visit table of the events before, or with one that follows the events."""
    ranker, before = shop.placed, shop.log.take(slice(0, shop.start))
    width, model = ranker.policy.neighbours, preset("baskets").co_visit_model(NO_TEXTS).fit(before)
    playback, table, after = Playback(ranker, before), ranker.neighbours, shop.log.take(slice(shop.start, None))
    ranks, counted = list[Ranks](), 0
    for batch in event_batches(after, playback.states, ranker.item_ids, EVENTS_OF_A_TABLE, shop.start + 1):
        ranks.append(rank(ranker.live, table, playback.states, batch, ranker.policy).feedback.ranks)
        if is_live:
            for event in visits(after.take(slice(counted, counted + len(batch)))):
                model.learn(*event)
            table = neighbour_table(model.table(width), ranker.item_ids, shop.log, width)
        counted += len(batch)
    return np.concatenate(ranks)


def by_table(shop: Shop) -> Iterator[str]:
    """A co-visit table that follows the events, as with `live_neighbours`, against the one of the events before."""
    live, fixed = ranks_with_table(shop, is_live=True), ranks_with_table(shop, is_live=False)
    repeat, user = repeats(shop.log)[shop.start :], shop.log.user[shop.start :]
    scored = (live[:, 0] != NO_SLATE) & (fixed[:, 0] != NO_SLATE)
    for placement, name, events in ((0, "all events", scored), (2, "discover, new to the user", scored & ~repeat)):
        ours, theirs = live[events, placement], fixed[events, placement]
        gain = paired_interval(discounted_gains(ours, K), discounted_gains(theirs, K), user[events])
        yield f"live co-visits, {name}: {_change(ours, theirs, np.ones(len(ours), np.bool_))}"
        yield f"  NDCG@20 {gain.difference:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"


def by_state(shop: Shop) -> Iterator[str]:
    """States that have gone on for some weeks, against states that are encoded from the histories."""
    rebuilt = rank_events(shop.ranker, shop.log, shop.start).rank
    events = np.bincount(shop.log.user[: shop.start], minlength=len(shop.log.user_ids))
    longer = events[shop.log.user[shop.start :]] > shop.ranker.layout.history
    for weeks in (1, 6):
        since = int(shop.log.ts[shop.start]) - weeks * 7 * DAY_MS
        ranks = rank_events(replace(shop.ranker, served_from_ms=since), shop.log, shop.start).rank
        scored = (ranks != NO_SLATE) & (rebuilt != NO_SLATE)
        yield f"states that went on for {weeks} weeks: {_change(ranks, rebuilt, scored)}"
        yield f"  users with more than {shop.ranker.layout.history} events: {_change(ranks, rebuilt, scored & longer)}"


def by_index(shop: Shop) -> Iterator[str]:
    """Recall of a graph over the items before and after it is tuned to users."""
    live = shop.ranker.live
    playback = Playback(replace(shop.ranker, served_from_ms=0), shop.log.take(slice(0, shop.start)))
    users = np.unique(shop.log.user[: shop.start])[:SAMPLE_SIZE]
    vectors = playback.states.columns.vector[playback.states.slots([shop.log.user_ids[user] for user in users])]
    ann_index.FLAT_INDEX_MAX_ITEMS, ann_index.SCANS_PER_EF_SEARCH = 1_000, 1
    rows = np.flatnonzero(live.index.columns.servable).astype(np.int32)
    graph = AnnIndex.build(live.index.columns.vectors, rows)
    before, ef = graph.recall(vectors.astype(np.float32)), graph.ef_search
    after = graph.tune(vectors.astype(np.float32))
    tuned = f"{after:.3f} at {graph.ef_search}, as tuned"
    yield f"graph of {len(rows):,} items: recall@100 {before:.3f} at efSearch {ef}, {tuned}"


def _change(ranks: Ranks, reference: Ranks, scored: NDArray[np.bool_]) -> str:
    ours, theirs = ranks[scored], reference[scored]
    differs = (ours != theirs).mean()
    return (
        f"NDCG@20 {ndcg_at(ours, K):.4f} against {ndcg_at(theirs, K):.4f}, recall@20 {recall_at(ours, K):.4f} against "
        f"{recall_at(theirs, K):.4f}, {differs:.1%} of {len(ours):,} ranks differ"
    )


def main(
    release: Annotated[Path, typer.Argument(help="Folder of a trained release.")],
    households: Annotated[int, typer.Option(help="Whose purchases are ranked.")] = 400,
    weeks: Annotated[int, typer.Option(help="Length of the log.")] = 22,
    days: Annotated[float, typer.Option(help="The last days are ranked.")] = 14.0,
    cache: Annotated[Path, typer.Option(help="Folder for text vectors.")] = DEFAULTS.data_dir,
) -> None:
    """Print one line for each difference."""
    shop = Shop.open(open_release(release), households, weeks, days, cache)
    for lines in (by_state, by_batch, by_table, by_index):
        for line in lines(shop):
            typer.echo(line)


if __name__ == "__main__":
    typer.run(main)
