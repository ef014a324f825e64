from __future__ import annotations

import numpy as np
import pytest
from kafka.consumer.fetcher import ConsumerRecord
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from anabranch.kafka.topics import completion_key, vector_key
from anabranch.messages import IndexingComplete, ItemVector, encode
from anabranch.metrics import ConsumerMetrics
from anabranch.ranking.retrieval.item_attributes import NO_NAME, category_hashes, name_hashes
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.vocabulary import ItemVocabulary
from consumers.releases.updates import InvalidItemVectors, group_by_release, item_vector_update


def vector(item_id: str, dims: int = 4) -> ItemVector:
    return ItemVector(item_id=item_id, release="r1", vector=np.ones(dims, "<f4").tobytes())


def record(key: bytes | None, value: bytes | None) -> ConsumerRecord:
    return ConsumerRecord("item-vectors", 0, 0, 0, 1, 0, key, value, [], None, 0, 0, 0)


def test_only_the_newest_message_of_each_item_and_release_counts() -> None:
    complete = IndexingComplete(release="r1", items=2, ts=1)
    records = [
        record(vector_key("a", "r1"), encode(vector("a"))),
        record(vector_key("b", "r1"), encode(vector("b"))),
        record(vector_key("a", "r1"), None),
        record(completion_key("r1"), encode(complete)),
    ]
    metrics = ConsumerMetrics(CollectorRegistry())
    assert group_by_release(records, metrics) == {"r1": {"a": None, "b": vector("b"), "": complete}}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, b"{}"),
        (b"no separator", encode(vector("a"))),
        (b"\xff\x1fr1", encode(vector("a"))),
        (vector_key("a", "r1"), b"junk"),
        (vector_key("a", "r1"), b'{"type":"vector","item_id":"a","release":"r\\u001f1","vector":""}'),
        (vector_key("a", "r1"), b'{"type":"vector","item_id":"a","release":"r1","vector":"no base 64"}'),
    ],
)
def test_records_that_the_indexer_cannot_have_written_are_counted_and_skipped(key: bytes | None, value: bytes) -> None:
    registry = CollectorRegistry()
    records = [record(key, value), record(vector_key("b", "r1"), encode(vector("b")))]
    assert group_by_release(records, ConsumerMetrics(registry)) == {"r1": {"b": vector("b")}}
    labels = {"topic": "item-vectors"}
    assert registry.get_sample_value("anabranch_messages_passed_over_total", labels) == 1


def test_an_update_brings_the_items_attributes_to_the_index() -> None:
    items, index = ItemVocabulary(), ItemIndex(4)
    path = ["GROCERY", "SOUP"]
    soup = replace(vector("soup"), category=path, brand="Ladle", domain="shop", price=2.5)
    update = item_vector_update("r1", {"soup": soup, "paint": vector("paint")}, items)
    assert update is not None
    update.apply(index)
    kept = index.attributes(items.rows(["soup", "paint"]))
    assert kept.categories.tolist() == [category_hashes([path])[0], NO_NAME]
    assert kept.brands.tolist() == [*name_hashes(["Ladle"]), NO_NAME]
    assert kept.domains.tolist() == [*name_hashes(["shop"]), NO_NAME]
    assert kept.prices[0] == 2.5
    assert np.isnan(kept.prices[1])


def test_vectors_of_unequal_length_are_an_error_that_names_the_release() -> None:
    with pytest.raises(InvalidItemVectors, match="r1"):
        item_vector_update("r1", {"a": vector("a"), "b": vector("b", dims=5)}, ItemVocabulary())


def test_vectors_of_other_dims_than_their_release_are_an_error_that_names_it() -> None:
    update = item_vector_update("r1", {"a": vector("a", dims=5)}, ItemVocabulary())
    assert update is not None
    with pytest.raises(InvalidItemVectors, match="r1 has 4 dims"):
        update.apply(ItemIndex(4))
