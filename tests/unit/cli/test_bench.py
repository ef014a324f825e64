"""Figures of benchmarks, and the states they make up."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from anabranch.cli.bench.echo_loop import Echoed
from anabranch.cli.bench.stand import Speed, percentiles, spread
from anabranch.cli.bench.swap import _mixes
from anabranch.cli.ledger import Answer
from anabranch.messages import Cause, Ranking


def test_a_figure_comes_with_its_spread() -> None:
    assert spread([1.0, 2.0, 3.0]) == {"mean": 2.0, "sd": 1.0, "min": 1.0, "max": 3.0}
    assert spread([4.0])["sd"] == 0


def test_percentiles_are_those_of_numpy_and_the_largest() -> None:
    values = [float(value) for value in range(1, 101)]
    assert percentiles(values) == {"p50": 50.5, "p95": np.percentile(values, 95), "p99": np.percentile(values, 99)} | {
        "max": 100.0
    }


def test_speed_counts_from_the_first_message_on() -> None:
    assert Speed.of(list(range(5_000, 6_000, 10))) == (pytest.approx(101, abs=1), pytest.approx(0.99))
    assert Speed.of([7]).per_second == pytest.approx(1000), "a millisecond is the least that can be told"


@pytest.mark.parametrize(("releases", "mixes"), [("aab", False), ("a", False), ("aba", True), ("abba", True)])
def test_a_partition_that_comes_back_to_a_release_mixes_two(releases: str, mixes: bool) -> None:
    cause = Cause(event_id="e", partition=0, offset=0, ts=0)
    answers = [Answer(Ranking(user_id="u", release=name, cause=cause, slate=[], ts=0), 0) for name in releases]
    assert _mixes(answers) is mixes


def test_what_is_to_be_echoed_comes_back_from_its_file(tmp_path: Path) -> None:
    echoed = Echoed("group", {0: 0, 1: 7, 2: 0}, 100, [(b"ranking", b"feedback")])
    echoed.write(tmp_path / "echoed")
    assert Echoed.read(tmp_path / "echoed") == echoed
    assert echoed.since == {0: 0, 1: 7, 2: 0}


def test_a_file_that_holds_no_echo_is_refused(tmp_path: Path) -> None:
    (tmp_path / "echoed").write_bytes(msgspec.msgpack.encode({"group": "group", "events": 0}))
    with pytest.raises(msgspec.ValidationError):
        Echoed.read(tmp_path / "echoed")
