"""A user's events, rankings and state, as a ranker would rebuild it from the events."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from anabranch.inspection.topic_messages import TopicMessage, read_messages
from anabranch.messages import Event
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline.user_update import replay
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.settings import Settings


@dataclass
class InspectedUser:
    """Valid events of one user in log order, each with the time of its append in UTC ms, and the newest rankings."""

    rankings: deque[TopicMessage]
    events: list[Event] = field(default_factory=list)
    appended_ms: list[int] = field(default_factory=list)

    @classmethod
    def read(
        cls, settings: Settings, user_id: str, ranking_limit: int, is_dead_letter: Callable[[int, int], bool]
    ) -> InspectedUser:
        """Read both topics from the beginning. `is_dead_letter(partition, offset)` says which events do not count."""
        history = cls(deque(maxlen=ranking_limit))
        for message in read_messages(settings, ["events", "rankings"]):
            if message.key == user_id:
                history._add(message, is_dead_letter)
        return history

    def _add(self, message: TopicMessage, is_dead_letter: Callable[[int, int], bool]) -> None:
        if message.topic == "rankings":
            self.rankings.append(message)
        elif isinstance(message.message, Event) and not is_dead_letter(message.partition, message.offset):
            self.events.append(message.message)
            self.appended_ms.append(message.timestamp)

    def state(self, settings: Settings) -> dict[str, Any]:
        """The state after all events, as JSON values with the ids of items."""
        layout = StateLayout.from_settings(settings)
        states, item_ids = UserStates(layout, dims=1, state_dims=1), ItemVocabulary()
        slots = states.slots(event.user_id for event in self.events)
        item_ids.rows(event.item_of_interest for event in self.events if event.item_of_interest is not None)
        item_ids.rows(item_id for event in self.events for item_id in event.shown)
        item_ids.rows(event.disliked_item for event in self.events if event.disliked_item is not None)
        replay(states, EventBatch.from_events(self.events, slots, item_ids, self.appended_ms))
        columns, slot = states.columns, int(slots[0])
        recent = [item_ids.id(int(row)) for row in states.recent_items(slots[:1], layout.history)[0] if row >= 0]
        lists, size = states.snapshot(slots[:1]).lists, int(columns.long_term_size[slot])
        counts = Counter(recent)
        for row, count in zip(
            lists.long_term.item[0, :size].tolist(), lists.long_term.event_count[0, :size].tolist(), strict=True
        ):
            counts[item_ids.id(row)] += int(count)
        shown_columns = (columns.shown_item[slot], columns.shown_count[slot], columns.shown_s[slot])
        return {
            "events": len(self.events),
            "newest_ts": int(columns.last_ts[slot]) if columns.last_ts[slot] >= 0 else None,
            "session_length": int(columns.session_length[slot]),
            "history": recent,
            "own_items": dict(counts.most_common()),
            "disliked": [item_ids.id(row) for row in columns.disliked_item[slot].tolist() if row >= 0],
            "shown_and_not_taken": {
                item_ids.id(row): {"times": count, "newest_ts": 1000 * second}
                for row, count, second in zip(*(column.tolist() for column in shown_columns), strict=True)
                if row >= 0
            },
        }
