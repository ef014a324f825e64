"""An identity as every producer of this project publishes it."""

from __future__ import annotations

from msgspec import Struct

from anabranch.field_types import Identifier
from anabranch.kafka import topics
from anabranch.kafka.records import OutboundRecord
from anabranch.messages import Identity, encode


class IdentifiedVisitor(Struct, frozen=True, kw_only=True):
    """An anonymous id, and who it turned out to be."""

    anonymous_id: Identifier
    identity: Identity


def identity_record(topic: str, visitor: IdentifiedVisitor) -> OutboundRecord:
    """The identity under the anonymous id."""
    return OutboundRecord(topic, topics.key(visitor.anonymous_id), encode(visitor.identity))
