"""The state layout of the default settings, from which tests make others."""

from __future__ import annotations

from anabranch.ranking.user_state.layout import StateLayout
from anabranch.settings import DEFAULTS

LAYOUT = StateLayout.from_settings(DEFAULTS)
