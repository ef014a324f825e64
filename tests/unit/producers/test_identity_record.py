from __future__ import annotations

from anabranch import messages
from anabranch.messages import Identity
from producers.identity_record import IdentifiedVisitor, identity_record


def test_an_identity_is_under_the_anonymous_id_so_that_the_newest_one_stays() -> None:
    visitor = IdentifiedVisitor(anonymous_id="a1", identity=Identity(user_id="u1", ts=7))
    record = identity_record("identities", visitor)
    assert (record.topic, record.key, record.value) == ("identities", b"a1", b'{"user_id":"u1","ts":7}')
    assert messages.identities.decode(record.value) == visitor.identity
