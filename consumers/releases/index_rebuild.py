"""Folding an index's changes into a new base, in a thread beside the ranking."""

from __future__ import annotations

import logging
from concurrent.futures import Future

from anabranch.ranking.retrieval.ann_index import AnnIndex
from anabranch.ranking.retrieval.item_index import ItemIndex
from consumers.runtime.background import run_in_background

log = logging.getLogger(__name__)


class Rebuilds:
    """Starts a rebuild where one is due, and has the index adopt it between two batches, once it is done."""

    def __init__(self) -> None:
        self._under_way: tuple[ItemIndex, Future[AnnIndex]] | None = None

    def go_on(self, index: ItemIndex) -> None:
        """Between two batches, of the index that is served. Raises what ended a rebuild."""
        if self._under_way is not None and self._under_way[1].done():
            of, base = self._under_way
            self._under_way = None
            of.swap_base(base.result())
            log.info("the index has a new base of %d items, and %d changes since", len(of.base), of.pending_changes)
        if self._under_way is None and index.needs_rebuild:
            self._under_way = index, run_in_background("index-rebuild", index.start_rebuild().base)
