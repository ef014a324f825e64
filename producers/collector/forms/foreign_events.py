"""Events from foreign forms: their fields, and the path of each in the request, which a refusal names. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from anabranch.http.messages.collector import RefusedEvent
from anabranch.messages import Event, shortened
from producers.collector.forms.refusal import EVENT_REMEDY, refused
from producers.identity_record import IdentifiedVisitor

ForeignId = str | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""Shops number their products and users; a whole number has one text, so it is taken as that."""
PRODUCT_REMEDY = "give every product as an object with its id, in a field that collect_item_key names"
ID_BYTES = 16


class InvalidField(Exception):
    """What a form requires is missing or of a wrong type."""

    def __init__(self, field: str | None, reason: str, remedy: str) -> None:
        """`field`: its path in the event; None: it is about the event as a whole."""
        super().__init__(reason)
        self._field = field
        self._reason = shortened(reason)
        self._remedy = remedy

    def refusal(self, index: int) -> RefusedEvent:
        """The answer for the event at this position of the request."""
        return RefusedEvent(index=index, field=self._field, reason=self._reason, remedy=self._remedy)


class NotUsed(Exception):
    """A valid event that Anabranch has no use for, with the reason."""


@dataclass(frozen=True)
class EventDraft:
    """Fields of an event before they are checked, and the path of each in the foreign event."""

    fields: Mapping[str, Any]
    paths: Mapping[str, str]

    def plus(self, other: EventDraft) -> EventDraft:
        """With the fields of another draft, which count where both have one."""
        return EventDraft({**self.fields, **other.fields}, {**self.paths, **other.paths})

    def having(self, **fields: object) -> EventDraft:
        """With these fields; their paths stay."""
        return EventDraft({**self.fields, **fields}, self.paths)

    def event(self) -> Event:
        """The event. Raises `InvalidField`, with the field's path in the foreign event."""
        try:
            return msgspec.convert(self.fields, Event)
        except msgspec.ValidationError as error:
            raise _invalid(str(error), self.paths) from error


def as_text(value: object) -> object:
    """An id as text; what is none stays as it is, and fails where an event is made of it."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def as_number(value: object) -> object:
    """A number that may be written as a text, as tag managers do; any other text stays as it is."""
    try:
        return msgspec.convert(value, float, strict=False) if isinstance(value, str) else value
    except msgspec.ValidationError:
        return value


def product_draft(product: object, path: str, item_keys: Sequence[str]) -> EventDraft:
    """Item, quantity and price of a product, whose fields are at `path`, such as "properties.".

    Its id is in the first field of `item_keys` that it has. Raises `InvalidField` if it has none of them.
    """
    if not isinstance(product, Mapping):
        raise InvalidField(path.rstrip("."), "the product is no object", PRODUCT_REMEDY)
    key = next((key for key in item_keys if product.get(key) is not None), None)
    if key is None:
        raise InvalidField(f"{path}{item_keys[0]}", f"the product has none of {', '.join(item_keys)}", PRODUCT_REMEDY)
    return EventDraft(
        {
            "item_id": as_text(product[key]),
            "quantity": as_number(product.get("quantity")),
            "price": as_number(product.get("price")),
        },
        {"item_id": f"{path}{key}", "quantity": f"{path}quantity", "price": f"{path}price"},
    )


def id_text(identifier: str | int | None) -> str | None:
    """An id as text; None if there is none, or an empty one."""
    return None if identifier is None or identifier == "" else str(identifier)


def optional_id(fields: Mapping[str, object], name: str) -> object:
    """An id as `as_text` gives it; None if there is none, or an empty one."""
    value = fields.get(name)
    return None if value == "" else as_text(value)


def has_product(fields: Mapping[str, object], item_keys: Sequence[str]) -> bool:
    """Whether these fields name a product."""
    return any(fields.get(key) is not None for key in item_keys)


def identified_visitor(anonymous_id: str, user_id: str, ts: int, paths: Mapping[str, str]) -> IdentifiedVisitor:
    """Raises `InvalidField`; `paths` are those of `anonymous_id`, `user_id` and `ts`."""
    fields = {"anonymous_id": anonymous_id, "identity": {"user_id": user_id, "ts": ts}}
    try:
        return msgspec.convert(fields, IdentifiedVisitor)
    except msgspec.ValidationError as error:
        reason = str(error)
        name = next((name for name in ("user_id", "ts") if f".{name}`" in reason), "anonymous_id")
        remedy = "give ids of 1 to 512 characters, none of them a control character, and a time between 1970 and 9999"
        raise InvalidField(paths[name], reason, remedy) from error


def derived_id(*parts: object) -> str:
    """An event id that is the same whenever the parts are."""
    return sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[: 2 * ID_BYTES]


def _invalid(reason: str, paths: Mapping[str, str]) -> InvalidField:
    """The refusal of an event, with the path of the field in the foreign event in place of the field's name."""
    refusal = refused(0, reason)
    if refusal.field is None or refusal.field not in paths:
        return InvalidField(refusal.field, reason, EVENT_REMEDY)
    path = paths[refusal.field]
    reason = reason.replace(f"`$.{refusal.field}", f"`{path}").replace(f"`{refusal.field}`", f"`{path}`")
    return InvalidField(path, reason, refusal.remedy)
