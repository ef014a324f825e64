"""Messages of Segment's spec, as events, identities, refusals, and what is ignored. Pure.

Source: Segment, "Spec: V2 ecommerce events", "Spec: V1 ecommerce events", "Spec: Identify", "Spec: Alias"; the names of
the first version that its libraries know are in the repository segmentio/analytics-events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from anabranch.event_types import EventType
from anabranch.http.messages.collector import RefusedEvent
from anabranch.messages import Event, InvalidMessage
from producers.collector.forms.foreign_events import (
    EventDraft,
    InvalidField,
    NotUsed,
    derived_id,
    has_product,
    id_text,
    identified_visitor,
    optional_id,
    product_draft,
)
from producers.collector.forms.form import IgnoredEvent, RequestContent
from producers.collector.forms.limits import CollectorLimits, too_many_events
from producers.collector.forms.refusal import too_large
from producers.collector.forms.shop_names import ShopNames
from producers.collector.segment import message as segment_message
from producers.collector.segment.message import SegmentMessage, time_ms

TRACK_EVENTS: Mapping[str, EventType] = {
    "product viewed": "view",
    "product clicked": "click",
    "product added": "cart",
    "product removed": "remove_from_cart",
    "order completed": "purchase",
    "order refunded": "refund",
    "product list viewed": "impression",
    "products searched": "search",
    "viewed product": "view",
    "clicked product": "click",
    "added product": "cart",
    "removed product": "remove_from_cart",
    "completed order": "purchase",
    "refunded order": "refund",
    "viewed product category": "impression",
}
"""Names count whatever their case. The last seven are of the first version of the spec."""
ORDER_EVENTS = frozenset({"order completed", "order refunded", "completed order", "refunded order"})
"""They have `products`."""
ORDER_KEYS = ("order_id", "orderId")
"""The second is of the first version."""
CALLS = ("track", "page", "identify", "alias")
MESSAGE_REMEDY = "give a call as Segment's spec has it: an object with type, userId or anonymousId, and properties"
PATHS = {"event_id": "messageId", "user_id": "userId", "ts": "timestamp", "query": "properties.query"}
PATHS |= {"ranking_id": "properties.ranking_id", "shown": "properties.products"}
"""Field of an event → its path in a message."""


class SegmentReader:
    """Reads the messages of one request."""

    def __init__(self, names: ShopNames, limits: CollectorLimits, received_ms: int, sent_at: str | None = None) -> None:
        """`sent_at`: of the whole batch."""
        self._names = names
        self._limits = limits
        self._received_ms = received_ms
        self._sent_at = sent_at
        self._content = RequestContent()

    def read(self, payloads: Sequence[bytes], call: str | None = None) -> RequestContent:
        """What these messages hold. `call`: what each of them is; None: its `type` says it.

        Raises `HttpProblem` (413) if they are, or become, more events than a request may have.
        """
        for index, payload in enumerate(payloads):
            self._read_message(index, payload, call)
            if self._content.count > self._limits.events:
                raise too_many_events(self._limits.events)
        return self._content

    def _read_message(self, index: int, payload: bytes, call: str | None) -> None:
        if len(payload) > self._limits.event_bytes:
            self._content.refused.append(too_large(index, self._limits.event_bytes))
            return
        try:
            self._take(index, segment_message.messages.decode(payload), call)
        except InvalidMessage as error:
            self._content.refused.append(
                RefusedEvent(index=index, field=None, reason=error.reason, remedy=MESSAGE_REMEDY)
            )
        except InvalidField as error:
            self._content.refused.append(error.refusal(index))
        except NotUsed as error:
            self._content.ignored.append(IgnoredEvent(index=index, reason=str(error)))

    def _take(self, index: int, message: SegmentMessage, call: str | None) -> None:
        """Raises `InvalidField` and `NotUsed`."""
        call = call or message.type
        if call not in CALLS:
            problem = "the call has no type" if call is None else f"calls of type {call!r} are not taken"
            raise InvalidField("type", problem, f"send only {', '.join(CALLS)}")
        if call in ("identify", "alias"):
            self._identify(message, call)
            return
        if message.user is None:
            raise InvalidField("userId", "the message has neither userId nor anonymousId", "give one of them")
        if call == "page":
            self._content.events.append(self._page_view(index, message))
        else:
            self._track(index, message)

    def _identify(self, message: SegmentMessage, call: str) -> None:
        user, anonymous = id_text(message.user_id), id_text(message.anonymous_id)
        if call == "alias":
            if user is None:
                raise InvalidField("userId", "an alias has no userId", "give the user's new id")
            anonymous = id_text(message.previous_id) or anonymous
        if anonymous is None or user is None or anonymous == user:
            raise NotUsed("it does not say that two ids are of one user")
        paths = {
            "anonymous_id": "previousId" if call == "alias" else "anonymousId",
            "user_id": "userId",
            "ts": "timestamp",
        }
        self._content.identities.append(identified_visitor(anonymous, user, self._time_ms(message), paths))

    def _page_view(self, index: int, message: SegmentMessage) -> Event:
        properties = message.properties or {}
        if not has_product(properties, self._names.item_keys):
            raise NotUsed("the page is not of a product")
        return self._product_event(index, message, "view")

    def _track(self, index: int, message: SegmentMessage) -> None:
        if not message.event:
            raise InvalidField("event", "a track call has no event", "give the event's name, such as Product Viewed")
        name, properties = message.event.strip().casefold(), message.properties or {}
        own_type = self._names.event_types.get(name)
        event_type = own_type or TRACK_EVENTS.get(name)
        if event_type is None:
            raise NotUsed("the event is not one of those that Anabranch learns from")
        if event_type == "impression":
            self._content.events.append(self._impression(index, message))
        elif event_type == "search":
            draft = self._draft(index, message).having(type="search", query=properties.get("query"))
            self._content.events.append(draft.event())
        elif name in ORDER_EVENTS or (own_type and not has_product(properties, self._names.item_keys)):
            self._order(index, message, event_type)
        else:
            self._content.events.append(self._product_event(index, message, event_type))

    def _product_event(self, index: int, message: SegmentMessage, kind: EventType) -> Event:
        product = product_draft(message.properties or {}, "properties.", self._names.item_keys)
        return self._draft(index, message).having(type=kind).plus(product).event()

    def _order(self, index: int, message: SegmentMessage, kind: EventType) -> None:
        """An event for each product, each refused alone; their ids follow from the message's, so that those of a retry
        are the same."""
        products = _products(message)
        if not products and kind == "refund":
            raise NotUsed("it does not say which products were refunded")
        if not products:
            raise InvalidField("properties.products", "the event has no products", "give its products")
        draft = self._draft(index, message).having(type=kind)
        for number, product in enumerate(products):
            line = draft.having(event_id=f"{draft.fields['event_id']}#{number}")
            try:
                product_fields = product_draft(product, f"properties.products[{number}].", self._names.item_keys)
                self._content.events.append(line.plus(product_fields).event())
            except InvalidField as error:
                self._content.refused.append(error.refusal(index))

    def _impression(self, index: int, message: SegmentMessage) -> Event:
        item_ids = tuple(self._shown(_products(message)))
        if not item_ids:
            raise NotUsed("the list names no products")
        return self._draft(index, message).having(type="impression", shown=item_ids).event()

    def _shown(self, products: Sequence[object]) -> Iterator[object]:
        for number, product in enumerate(products):
            yield product_draft(product, f"properties.products[{number}].", self._names.item_keys).fields["item_id"]

    def _draft(self, index: int, message: SegmentMessage) -> EventDraft:
        properties = message.properties or {}
        order = next((name for name in ORDER_KEYS if name in properties), ORDER_KEYS[0])
        fields = {
            "event_id": id_text(message.message_id) or self._derived_id(index, message),
            "user_id": message.user,
            "ts": self._time_ms(message),
            "order_id": optional_id(properties, order),
            "ranking_id": optional_id(properties, "ranking_id"),
        }
        paths = PATHS | {"order_id": f"properties.{order}"}
        return EventDraft(fields, paths if message.user_id else paths | {"user_id": "anonymousId"})

    def _derived_id(self, index: int, message: SegmentMessage) -> str:
        """For a message without an id. If it has no time either, a retry counts as another event."""
        time = message.original_timestamp or message.timestamp
        moment = [time] if time else [self._received_ms, index]
        return derived_id(message.user, message.event, message.properties, *moment)

    def _time_ms(self, message: SegmentMessage) -> int:
        return time_ms(message, self._sent_at, self._received_ms)


def _products(message: SegmentMessage) -> Sequence[object]:
    products = (message.properties or {}).get("products")
    if products is None:
        return ()
    if not isinstance(products, list):
        raise InvalidField("properties.products", "`products` is no list", "give a list of products")
    return products
