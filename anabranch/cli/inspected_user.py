"""A user's events and rankings, for commands that look at one user."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anabranch.inspection.user_history import InspectedUser
    from anabranch.settings import Settings


def read_user(settings: Settings, user_id: str, ranking_limit: int = 1) -> InspectedUser:
    """Read the whole topics. Raises `UsageError` if there are no events of the user."""
    from anabranch.errors import UsageError
    from anabranch.inspection.user_history import InspectedUser
    from anabranch.kafka import clients
    from anabranch.kafka.log_reader import KafkaLogReader
    from anabranch.kafka.topics import Topics
    from consumers.ranker.dead_letter_offsets import DeadLetterOffsets

    clients.require_topics(settings)
    dead_letters = DeadLetterOffsets(KafkaLogReader(settings), Topics(settings))
    for _ in dead_letters.catch_up():
        pass
    user = InspectedUser.read(settings, user_id, ranking_limit, dead_letters.holds)
    if not user.events:
        raise UsageError(f"there are no events of user {user_id}")
    return user
