"""A user's events, rankings, and the ranking of now, for commands that look at one user."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anabranch.inspection.user_history import InspectedUser
    from anabranch.inspection.user_ranking import UserRanking
    from anabranch.ranking.rules.rule_book import NumberedRule
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


def read_ranking(settings: Settings, user_id: str) -> tuple[UserRanking, list[NumberedRule]]:
    """The user's ranking, to be made here, and the rules that hold now. Reads the topics that a ranker reads, too.

    Raises `UsageError` if there are no events of the user, or no release is ready to serve.
    """
    import time

    from anabranch.errors import UsageError
    from anabranch.inspection.user_ranking import UserRanking
    from consumers.releases.serving_copy import ServingCopy

    user = read_user(settings, user_id)
    if not any(event.is_action for event in user.events):
        raise UsageError(f"there are impressions of user {user_id} alone, and no event that a ranking follows")
    copy = ServingCopy.read(settings)
    ranking = UserRanking(settings, copy.live, copy.co_visits, copy.item_ids, user)
    return ranking, copy.rules.holding(time.time_ns() // 1_000_000)
