"""The folders of `models` in the order in which data passes through them; each imports only those before it."""

from __future__ import annotations

import pytest

from tests.support.import_graph import imports, within

ROOMS = (
    "models.data",
    "models.metrics",
    "models.networks",
    "models.co_visit",
    "models.seeds",
    "models.sharing",
    "models.offline",
    "models.evaluation",
    "models.pipeline",
    "models.report",
    "models.experiments",
    "models.retraining",
)
SHARED = ("models.stages", "models.training_curves")
"""Modules that every room may import."""


def test_every_module_of_models_is_in_a_room_or_shared() -> None:
    modules = {module for module in imports() if within(module, ["models"])} - {"models"}
    assert not {module for module in modules if not within(module, [*ROOMS, *SHARED])}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_before_it(room: str) -> None:
    allowed = (*SHARED, *ROOMS[: ROOMS.index(room) + 1])
    forbidden = {
        (module, imported)
        for module in imports()
        if within(module, [room])
        for imported in imports()[module]
        if within(imported, ["models"]) and not within(imported, allowed)
    }
    assert not forbidden
