"""Placements: the named places where slates are shown, and which items each may show."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

PlacementName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class AtMost(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many items of one kind a slate shows, so that it is varied. None: as many as there are."""

    brand: Annotated[int, Meta(ge=1)] | None = None
    category: Annotated[int, Meta(ge=1)] | None = None
    """Of one category path, the whole of it."""


class Rotation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an item that the user was shown, and did not take, stands behind all others on a slate.

    What counts is what `impression` events say, at whatever placement, in the order of the log.
    """

    after: Annotated[int, Meta(ge=1, le=255)] = 3
    """It rests after so many impressions since the last event that showed the user's interest in it."""
    rest_h: Annotated[float, Meta(gt=0, le=8760)] = 24.0
    """It rests for so many hours after the last impression. After that one more impression makes it rest again, unless
    the user takes an interest in it."""

    @property
    def rest_ms(self) -> int:
        """`rest_h` in milliseconds."""
        return round(self.rest_h * 3_600_000)


class Placement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place where a slate is shown. All placements choose from the same candidates and scores of a ranking."""

    name: PlacementName
    repeats: Literal["allow", "only", "never"] = "allow"
    """Items that the user has had an event about. allow: shown among the others, unless `exclude_seen` or
    `allow_session_repeats` excludes them. only: nothing else is shown, and what is of the current session only with
    `allow_session_repeats`. never: not shown."""
    without: tuple[PlacementName, ...] = ()
    """Placements before this one: what stands on their slates is not shown here too."""
    at_most: AtMost = AtMost()
    """Items of one brand, or of one category, beyond this number are passed over. Pinned items are not counted."""
    calibration: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """How much it counts that the shares of categories on a slate are those of the user's history (Steck, Calibrated
    recommendations, RecSys 2018). 0: not at all; the nearer to 1, the less the scores decide."""
    rotation: Rotation | None = None
    """Items that rest are shown only where there are no others; pinned ones do not rest. None: nothing rests."""

    @property
    def is_varied(self) -> bool:
        """Whether a slate depends on what its items have in common."""
        return self.at_most != AtMost() or self.calibration > 0


FOR_YOU = Placement(name="for_you")
AGAIN = Placement(name="again", repeats="only")
DISCOVER = Placement(name="discover", repeats="never")
EACH_CLASS = (FOR_YOU, AGAIN, DISCOVER)
"""One placement with both, one with what the user knows and one with what is new to the user."""


def contradictions(placements: tuple[Placement, ...]) -> list[str]:
    """What is wrong with placements that are valid alone, each with its remedy."""
    problems, earlier = [], list[str]()
    for placement in placements:
        if placement.name in earlier:
            problems.append(f"two placements are named {placement.name}; name one of them differently")
        problems += [
            f"placement {placement.name} is without {name}, which is no placement before it; those before it are: "
            f"{', '.join(earlier) or 'none'}"
            for name in placement.without
            if name not in earlier
        ]
        earlier.append(placement.name)
    return problems
