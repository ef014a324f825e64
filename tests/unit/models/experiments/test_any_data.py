"""`check`, `share` and `evaluate` on generated small data sets: every outcome is a result or an error of ours."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from anabranch.cli.main import app
from anabranch.release import open_release
from tests.support.small_shops import SMALL_SHOPS, SmallShop
from tests.support.text_models import write_text_model

REPEATABLE = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("text"), ["thing", *map(str, range(30))])


def run(*arguments: str | Path) -> bool:
    """Whether a command succeeds. Fails on an exception that is no error of ours."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    assert result.exit_code == 0 or "Traceback" not in result.output
    return result.exit_code == 0


@settings(REPEATABLE, max_examples=25)
@given(shop=SMALL_SHOPS, kind=st.sampled_from(["sessions", "baskets", "histories"]))
def test_a_release_is_made_and_evaluated_or_the_error_leaves_nothing_behind(
    text_model: Path, shop: SmallShop, kind: str
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        events, items = shop.write(folder)
        is_readable = run("check", events, items)
        common = ("--data", events, "--items", items, "--kind", kind, "--text-model", text_model, "--threads", "1")
        work, made, figures = ("--data-dir", folder / "work"), folder / "release", folder / "figures.json"
        shared = run(*work, "share", "--protocol", "time-split", *common, "--out", made)
        assert made.exists() == shared
        assert is_readable or not shared
        if shared:
            manifest = open_release(made).manifest
            open_release(made).verify()
            assert np.isfinite(list(manifest.strategy["measured"].values())).all()
            assert np.isfinite(list(manifest.parity.values())).all()
        if shared and run(*work, "evaluate", *common, "--release", made, "--json", figures):
            served = msgspec.json.decode(figures.read_bytes())["prequential"]["served"]
            assert 0 <= served["recall_at_20"] <= 1 and served["events"] > 0
