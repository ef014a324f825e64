"""A request of GA4's Measurement Protocol, as events, an identity, refusals, and what is ignored. Pure.

Source: Google, "Measurement Protocol (Google Analytics 4)": protocol reference, and the reference of its events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Raw, Struct

from anabranch.codec import Codec
from anabranch.event_types import EventType
from anabranch.http.messages.collector import RefusedEvent
from anabranch.messages import Event, InvalidMessage, encode
from producers.collector.forms.foreign_events import (
    EventDraft,
    ForeignId,
    InvalidField,
    NotUsed,
    derived_id,
    id_text,
    identified_visitor,
    optional_id,
    product_draft,
)
from producers.collector.forms.form import IgnoredEvent, RequestContent
from producers.collector.forms.limits import CollectorLimits, too_many_events
from producers.collector.forms.shop_names import ShopNames

MAX_EVENTS = 25
MAX_ITEMS = 200
EVENTS: Mapping[str, EventType] = {
    "view_item": "view",
    "select_item": "click",
    "add_to_cart": "cart",
    "remove_from_cart": "remove_from_cart",
    "purchase": "purchase",
    "refund": "refund",
    "view_item_list": "impression",
    "search": "search",
}
"""An impression has all `items`; of the others but searches, each becomes an event for every one of them."""
EVENT_REMEDY = "give an object with a `name` and `params`"
TIME_REMEDY = "give the time as a whole number of microseconds since 1970, or leave it out"


class Ga4Event(Struct, frozen=True, kw_only=True):
    """An event, as far as it is read."""

    name: str
    params: dict[str, Any] | None = None
    timestamp_micros: int | str | None = None
    """Counts before that of the request."""


class Ga4Request(Struct, frozen=True, kw_only=True):
    """A body, as far as it is read."""

    events: list[Raw]
    client_id: ForeignId | None = None
    user_id: ForeignId | None = None
    timestamp_micros: int | str | None = None

    @property
    def user(self) -> str | None:
        """user_id, else client_id; an empty one is none."""
        return id_text(self.user_id) or id_text(self.client_id)


events = Codec(Ga4Event, foreign=True)


class Ga4Reader:
    """Reads one request."""

    def __init__(self, request: Ga4Request, names: ShopNames, limits: CollectorLimits, received_ms: int) -> None:
        self._request = request
        self._names = names
        self._limits = limits
        self._received_ms = received_ms
        self._content = RequestContent()

    def read(self) -> RequestContent:
        """What the request holds. Raises `HttpProblem` (413) if it has, or becomes, too many events."""
        if len(self._request.events) > MAX_EVENTS:
            raise too_many_events(MAX_EVENTS)
        for index, payload in enumerate(self._request.events):
            self._read_event(index, bytes(payload))
            if self._content.count > self._limits.events:
                raise too_many_events(self._limits.events)
        if self._content.events or self._content.ignored:
            self._identify()
        return self._content

    def _read_event(self, index: int, payload: bytes) -> None:
        try:
            self._take(index, events.decode(payload))
        except InvalidMessage as error:
            self._content.refused.append(
                RefusedEvent(index=index, field=f"events[{index}]", reason=error.reason, remedy=EVENT_REMEDY)
            )
        except InvalidField as error:
            self._content.refused.append(error.refusal(index))
        except NotUsed as error:
            self._content.ignored.append(IgnoredEvent(index=index, reason=str(error)))

    def _take(self, index: int, event: Ga4Event) -> None:
        """Raises `InvalidField` and `NotUsed`."""
        own_type = self._names.event_types.get(event.name)
        event_type = own_type or EVENTS.get(event.name)
        if event_type is None:
            raise NotUsed("the event is not one of those that Anabranch learns from")
        if self._request.user is None:
            raise InvalidField("client_id", "the request has neither client_id nor user_id", "give one of them")
        draft, params = self._draft(index, event).having(type=event_type), event.params or {}
        if event_type == "search":
            self._add(draft.having(query=params.get("search_term")))
        elif own_type and event_type != "impression" and not params.get("items"):
            self._add(draft.plus(product_draft(params, f"events[{index}].params.", self._names.item_keys)))
        elif event_type == "impression":
            items = enumerate(_items(index, event, event_type))
            self._add(draft.having(shown=tuple(self._item(index, *item).fields["item_id"] for item in items)))
        else:
            self._each_item(index, event, draft, _items(index, event, event_type))

    def _each_item(self, index: int, event: Ga4Event, draft: EventDraft, items: Sequence[object]) -> None:
        for number, item in enumerate(items):
            try:
                line = draft.plus(self._item(index, number, item))
                self._add(line.having(event_id=self._line_id(event, line, number)))
            except InvalidField as error:
                self._content.refused.append(error.refusal(index))

    def _item(self, index: int, number: int, item: object) -> EventDraft:
        return product_draft(item, f"events[{index}].params.items[{number}].", self._names.item_keys)

    def _add(self, draft: EventDraft) -> None:
        event: Event = draft.event()
        if len(encode(event)) > self._limits.event_bytes:
            raise InvalidField(None, f"the event has more than {self._limits.event_bytes} bytes", "send fewer items")
        self._content.events.append(event)

    def _draft(self, index: int, event: Ga4Event) -> EventDraft:
        params, path = event.params or {}, f"events[{index}].params."
        micros, micros_path = event.timestamp_micros, f"events[{index}].timestamp_micros"
        if micros is None:
            micros, micros_path = self._request.timestamp_micros, "timestamp_micros"
        ts = _time_ms(micros, micros_path)
        moment = [self._received_ms] if ts is None else [str(micros)]
        fields = {
            "event_id": derived_id(self._request.user, event.name, index, params, *moment),
            "user_id": self._request.user,
            "ts": self._received_ms if ts is None else ts,
            "session_id": optional_id(params, "session_id"),
            "order_id": optional_id(params, "transaction_id"),
            "ranking_id": optional_id(params, "ranking_id"),
        }
        paths = {"query": f"{path}search_term", "shown": f"{path}items", "order_id": f"{path}transaction_id"}
        paths |= {name: f"{path}{name}" for name in ("session_id", "ranking_id")}
        paths |= {"ts": micros_path, "user_id": "user_id" if id_text(self._request.user_id) else "client_id"}
        return EventDraft(fields, paths)

    def _line_id(self, event: Ga4Event, line: EventDraft, number: int) -> str:
        """Of an item's event. A purchase is known by its transaction, whenever it is sent, as in GA4."""
        fields = line.fields
        if event.name == "purchase" and fields["order_id"] is not None:
            return derived_id("purchase", fields["user_id"], fields["order_id"], number, fields["item_id"])
        return f"{fields['event_id']}#{number}"

    def _identify(self) -> None:
        """The client that a user has."""
        client, user = id_text(self._request.client_id), id_text(self._request.user_id)
        if client is None or user is None or client == user:
            return
        try:
            ts = _time_ms(self._request.timestamp_micros, "timestamp_micros")
            paths = {"anonymous_id": "client_id", "user_id": "user_id", "ts": "timestamp_micros"}
            self._content.identities.append(
                identified_visitor(client, user, self._received_ms if ts is None else ts, paths)
            )
        except InvalidField as error:
            self._content.refused.append(error.refusal(0))


def _items(index: int, event: Ga4Event, event_type: EventType) -> Sequence[object]:
    """At least one. Raises `InvalidField`, and `NotUsed` where there may be none."""
    path = f"events[{index}].params.items"
    items = (event.params or {}).get("items")
    if items in (None, []):
        if event_type in ("impression", "refund"):
            raise NotUsed("the event names no items")
        raise InvalidField(path, f"`{event.name}` has no items", "give the items that the event is about")
    if not isinstance(items, list):
        raise InvalidField(path, "`items` is no list", "give a list of items")
    if len(items) > MAX_ITEMS:
        raise InvalidField(path, f"the event has more than {MAX_ITEMS} items", "send them in several events")
    return items


def _time_ms(micros: int | str | None, path: str) -> int | None:
    """Milliseconds since 1970; None if there is no time. Raises `InvalidField`."""
    if micros is None or isinstance(micros, int):
        return None if micros is None else micros // 1000
    if not (micros.isascii() and micros.isdecimal() and len(micros) <= 20):
        raise InvalidField(path, f"`{path}` is no whole number", TIME_REMEDY)
    return int(micros) // 1000
