from __future__ import annotations

import gzip
import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.http.admission import Admission
from anabranch.http.content_encoding import decompress, require_encoding
from anabranch.http.problems import HttpProblem


def status_of(body: bytes, max_bytes: int = 100, max_in_flight: int = 1_000) -> int:
    admission = Admission(1, max_in_flight)
    with pytest.raises(HttpProblem) as raised:
        decompress(body, max_bytes, admission.enter())
    assert admission.bytes == 0, "what is refused is not in flight"
    return raised.value.status


@given(st.binary(max_size=100))
def test_a_body_is_what_was_compressed_and_its_bytes_are_in_flight(content: bytes) -> None:
    admission = Admission(1, 100)
    assert decompress(gzip.compress(content), 100, admission.enter()) == content
    assert admission.bytes == len(content)


def test_a_body_that_grows_beyond_the_limit_is_too_large_however_small_it_arrives() -> None:
    bomb = gzip.compress(bytes(100_000_000))
    assert len(bomb) < 100_000
    assert status_of(bomb) == 413
    assert status_of(gzip.compress(bytes(101))) == 413
    assert status_of(gzip.compress(bytes(100)), max_in_flight=99) == 503


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{}", id="not compressed"),
        pytest.param(gzip.compress(b"{}")[:-1], id="without its last byte"),
        pytest.param(gzip.compress(b"{}") + b"x", id="with another byte"),
        pytest.param(gzip.compress(b"{}") * 2, id="two members"),
        pytest.param(gzip.compress(os.urandom(50))[:30], id="cut in its content"),
        pytest.param(gzip.compress(b"{}")[:-8] + bytes(8), id="with another checksum"),
        pytest.param(zlib.compress(b"{}"), id="zlib"),
    ],
)
def test_what_is_no_gzip_of_one_member_is_a_problem_of_the_client(body: bytes) -> None:
    assert status_of(body) == 400


@given(st.binary(max_size=200))
def test_any_bytes_are_a_body_or_a_problem_of_the_client(body: bytes) -> None:
    try:
        decompress(body, 100, Admission(1, 100).enter())
    except HttpProblem as problem:
        assert problem.status in (400, 413)


def test_gzip_is_the_only_encoding() -> None:
    assert [require_encoding(name) for name in (None, "identity", "", "gzip", "GZIP ", "x-gzip")] == [False] * 3 + [
        True
    ] * 3
    for name in ("br", "deflate", "gzip, gzip", "zstd", "gzip;q=1"):
        with pytest.raises(HttpProblem) as raised:
            require_encoding(name)
        assert (raised.value.status, raised.value.headers["Accept-Encoding"]) == (415, "gzip, identity")
