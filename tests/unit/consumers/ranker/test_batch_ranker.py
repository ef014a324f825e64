from __future__ import annotations

from pathlib import Path

import pytest

from anabranch.ranking.policy import Policy
from anabranch.ranking.vocabulary import ItemVocabulary
from consumers.ranker.batch_ranker import warn_of_missing_heads
from tests.support.releases import live_release, write_release


@pytest.mark.parametrize(("configured", "head"), [(True, False), (True, True), (False, False)])
def test_a_missing_purchase_head_is_logged_only_if_it_is_configured(
    configured: bool, head: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_release(tmp_path / "r1", purchase=head)
    warn_of_missing_heads(live_release(tmp_path / "r1", ItemVocabulary(), []), Policy(purchase=configured))
    assert ("release r1 has no purchase head" in caplog.text) is (configured and not head)
