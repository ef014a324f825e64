"""Topics `rules` and `rule-changes`: read to their ends, and rules changed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing

from anabranch import messages
from anabranch.kafka import clients, topics
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.kafka.transactional_producer import TransactionalProducer
from anabranch.messages import InvalidMessage, Rule, RuleChange
from anabranch.settings import Settings

log = logging.getLogger(__name__)


def read_rules(settings: Settings) -> dict[str, Rule]:
    """The newest version of every rule, by its id. Records that are no valid rules are skipped, with a warning.

    Raises `BrokerUnavailable`.
    """
    rules: dict[str, Rule] = {}
    for record in clients.read_to_end(settings, [Topics(settings).rules]):
        rule_id = (record.key or b"").decode(errors="replace")
        if record.value is None:
            rules.pop(rule_id, None)
            continue
        try:
            rules[rule_id] = messages.rules.decode(record.value)
        except InvalidMessage as invalid:  # rankers keep the version before it
            log.warning("skipping offset %d of %s: %s", record.offset, record.topic, invalid.reason)
    return rules


def read_changes(settings: Settings) -> Iterator[RuleChange]:
    """Every change, oldest first. Raises `BrokerUnavailable`, and `InvalidMessage` for what nobody should write."""
    for record in clients.read_to_end(settings, [Topics(settings).rule_changes]):
        if record.value is not None:
            yield messages.rule_changes.decode(record.value)


def change_rules(settings: Settings, new: Mapping[str, Rule | None], by: str, now_ms: int) -> list[RuleChange]:
    """Put rules in place of those with their ids, or remove them (None); what changed.

    Every rule and the record of its change are in one transaction. It is opened before the rules are read, and another
    call that begins meanwhile ends it: so nobody overwrites a rule that they have not seen. Raises `KafkaError` then.
    """
    with closing(TransactionalProducer(settings, f"{settings.topic_prefix}anabranch-rules")) as producer:
        changes = differences(read_rules(settings), new, by, now_ms)
        if changes:
            producer.publish(list(_records(Topics(settings), changes)), {}, None)
    return changes


def differences(old: Mapping[str, Rule], new: Mapping[str, Rule | None], by: str, now_ms: int) -> list[RuleChange]:
    """The changes of those rules that are not as they were."""
    return [
        RuleChange(rule_id=rule_id, by=by, ts=now_ms, before=old.get(rule_id), after=rule)
        for rule_id, rule in new.items()
        if old.get(rule_id) != rule
    ]


def _records(names: Topics, changes: Iterable[RuleChange]) -> Iterator[OutboundRecord]:
    for change in changes:
        key = topics.key(change.rule_id)
        yield OutboundRecord(names.rules, key, None if change.after is None else messages.encode(change.after))
        yield OutboundRecord(names.rule_changes, key, messages.encode(change))
