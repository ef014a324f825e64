"""Who changes rules, where the login does not say."""

from __future__ import annotations

import getpass

import pytest

from anabranch.cli import rules
from anabranch.errors import UsageError


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 12345"), OSError("No username set")])
def test_a_login_without_a_name_is_asked_to_say_who_it_is(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def nobody() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", nobody)
    with pytest.raises(UsageError, match="--by"):
        rules._login()
