from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import ClientDisconnect

from anabranch.http.admission import Admission
from anabranch.http.problems import HttpProblem
from anabranch.http.request_body import read_body


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x"
        await asyncio.sleep(0)


def read(body: AsyncIterator[bytes], length: str | None = None, in_flight: int = 1000, timeout_s: float = 9.0) -> bytes:
    admission = Admission(1, in_flight)
    return asyncio.run(read_body(body, length, 10, admission.enter(), timeout_s))


def status_of(body: AsyncIterator[bytes], length: str | None = None, **limits: float) -> int:
    with pytest.raises(HttpProblem) as raised:
        read(body, length, **limits)  # type: ignore[arg-type]
    return int(raised.value.status)


def test_a_body_of_exactly_the_limit_is_read() -> None:
    assert read(chunks(b"12345", b"", b"67890"), "10") == b"1234567890"


def test_a_longer_one_is_refused_by_its_announced_length_before_it_is_read() -> None:
    async def nothing_is_read() -> AsyncIterator[bytes]:
        raise AssertionError
        yield b""

    assert status_of(nothing_is_read(), "11") == 413


@pytest.mark.parametrize("length", [None, "3", "-1", "many"])
def test_a_longer_one_is_refused_whatever_it_announced(length: str | None) -> None:
    assert status_of(endless(), length) == 413


def test_a_body_that_takes_too_long_is_refused() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"1"
        await asyncio.sleep(60)

    assert status_of(slow(), timeout_s=0.01) == 408


def test_a_body_beyond_what_may_be_in_flight_is_refused() -> None:
    assert status_of(chunks(b"12345", b"67890"), in_flight=9) == 503


def test_a_client_that_leaves_before_the_end_of_its_body_is_no_defect() -> None:
    async def left() -> AsyncIterator[bytes]:
        yield b"1"
        raise ClientDisconnect

    assert status_of(left()) == 400
