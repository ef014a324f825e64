from __future__ import annotations

import fcntl
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from anabranch.text_embedding_cache import TextEmbeddingCache, Vectors
from tests.support.full_disk import files_up_to

DIMS = 3


class Encoder:
    """Embeds a text as its length, its first and its last character, and records which texts it embedded."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def __call__(self, texts: Sequence[str]) -> Vectors:
        self.encoded += texts
        return np.array([[len(text), ord(text[0]), ord(text[-1])] for text in texts], np.float32)


def test_a_text_is_encoded_once(tmp_path: Path) -> None:
    encode, cache = Encoder(), TextEmbeddingCache(tmp_path / "v", DIMS)
    first = cache.get(["soup", "bread", "soup"], encode)
    again = cache.get(["bread", "soup"], encode)
    assert encode.encoded == ["soup", "bread"]
    np.testing.assert_array_equal(first[[1, 0]], again)


def test_a_restart_reads_what_was_encoded_before(tmp_path: Path) -> None:
    before = TextEmbeddingCache(tmp_path / "v", DIMS).get(["soup", "bread"], Encoder())
    encode, cache = Encoder(), TextEmbeddingCache(tmp_path / "v", DIMS)
    assert "soup" in cache
    np.testing.assert_array_equal(cache.get(["soup", "bread", "milk"], encode)[:2], before)
    assert encode.encoded == ["milk"]
    assert len(TextEmbeddingCache(tmp_path / "v", DIMS)) == 3


def test_a_record_cut_off_by_a_crash_is_dropped_and_encoded_again(tmp_path: Path) -> None:
    path = tmp_path / "v"
    TextEmbeddingCache(path, DIMS).get(["soup", "bread"], Encoder())
    path.write_bytes(path.read_bytes()[:-5])
    encode, cache = Encoder(), TextEmbeddingCache(path, DIMS)
    cache.get(["soup", "bread"], encode)
    assert encode.encoded == ["bread"]
    encode = Encoder()
    TextEmbeddingCache(path, DIMS).get(["soup", "bread"], encode)
    assert encode.encoded == []


def test_two_processes_may_append_to_one_file(tmp_path: Path) -> None:
    first, second = TextEmbeddingCache(tmp_path / "v", DIMS), TextEmbeddingCache(tmp_path / "v", DIMS)
    first.get(["soup"], Encoder())
    second.get(["bread"], Encoder())
    first.get(["milk"], Encoder())
    assert len(TextEmbeddingCache(tmp_path / "v", DIMS)) == 3


def test_many_texts_outgrow_the_first_array(tmp_path: Path) -> None:
    cache = TextEmbeddingCache(tmp_path / "v", DIMS)
    texts = [f"{number}" for number in range(100)]
    for text in texts:
        cache.get([text], Encoder())
    np.testing.assert_array_equal(cache.get(texts, Encoder()), Encoder()(texts))


def test_no_texts_have_no_vectors(tmp_path: Path) -> None:
    assert TextEmbeddingCache(tmp_path / "v", DIMS).get([], Encoder()).shape == (0, DIMS)


def test_without_room_on_the_disk_vectors_are_kept_in_memory_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"{number}" for number in range(2000)]
    encode, cache = Encoder(), TextEmbeddingCache(tmp_path / "v", DIMS)
    with files_up_to(4096):
        vectors = cache.get(texts, encode)
    np.testing.assert_array_equal(vectors, Encoder()(texts))
    assert "2,000 text vectors are not stored in" in caplog.text and "File too large; make room" in caplog.text

    cache.get(["soup"], encode)
    encode = Encoder()
    np.testing.assert_array_equal(TextEmbeddingCache(tmp_path / "v", DIMS).get([*texts, "soup"], encode)[:-1], vectors)
    assert "soup" not in encode.encoded


def test_a_process_that_waited_for_the_lock_keeps_what_was_appended_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "v"
    first, second = TextEmbeddingCache(path, DIMS), TextEmbeddingCache(path, DIMS)
    first.get(["soup"], Encoder())
    with path.open("ab") as lock, ThreadPoolExecutor(1) as waiting:
        fcntl.flock(lock, fcntl.LOCK_EX)
        appended = waiting.submit(second.get, ["bread"], Encoder())
        time.sleep(0.2)  # the file is open, and its end was the end of "soup"
        lock.write(path.read_bytes())
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_UN)
        appended.result()
    assert path.stat().st_size == 3 * (32 + 4 * DIMS)
