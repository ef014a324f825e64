from __future__ import annotations

import pytest

from anabranch.http.admission import Admission
from anabranch.http.problems import HttpProblem


def test_a_request_beyond_the_limit_is_refused_at_once_until_another_is_done() -> None:
    admission = Admission(max_requests=2, max_bytes=100)
    first, _ = admission.enter(), admission.enter()
    with pytest.raises(HttpProblem) as raised:
        admission.enter()
    assert raised.value.status == 503 and raised.value.headers["Retry-After"] == "1"
    assert admission.requests == 2, "a request that was refused counts for nothing"
    first.release()
    admission.enter()


def test_bytes_beyond_the_limit_are_refused_until_others_are_done() -> None:
    admission = Admission(max_requests=9, max_bytes=100)
    first, second = admission.enter(), admission.enter()
    first.take(60)
    second.take(40)
    with pytest.raises(HttpProblem) as raised:
        second.take(1)
    assert raised.value.status == 503
    assert admission.bytes == 100
    first.release()
    second.take(1)
    assert (admission.requests, admission.bytes) == (1, 41)


def test_a_ticket_gives_its_share_back_once() -> None:
    admission = Admission(max_requests=2, max_bytes=10)
    ticket, _ = admission.enter(), admission.enter()
    ticket.take(5)
    ticket.release()
    ticket.release()
    assert (admission.requests, admission.bytes) == (1, 0)


def test_a_request_that_grows_counts_with_its_largest_size() -> None:
    admission = Admission(2, 10)
    ticket = admission.enter()
    ticket.take(4)
    ticket.raise_to(3)
    assert admission.bytes == 4
    ticket.raise_to(10)
    assert admission.bytes == 10
    with pytest.raises(HttpProblem):
        ticket.raise_to(11)
    ticket.release()
    assert admission.bytes == 0
