"""Files of merchandisers' rules."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Raw

from anabranch import messages
from anabranch.errors import UsageError
from anabranch.messages import InvalidMessage, Rule


def read_rule_file(file: Path) -> list[Rule]:
    """The rules of a JSON file: one, or a list of them. Raises `UsageError`, which names the place and the problem."""
    try:
        content = file.read_bytes()
        is_one = content.lstrip().startswith(b"{")
        raw = [Raw(content)] if is_one else msgspec.json.decode(content, type=list[Raw])
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise UsageError(f"{file} is not valid JSON: {error}") from error
    rules: list[Rule] = []
    for number, of_rule in enumerate(raw, start=1):
        try:
            rule = messages.rules.decode(bytes(of_rule))
        except InvalidMessage as invalid:
            raise UsageError(f"{file}, rule {number}: {invalid.reason}") from invalid
        if any(rule.rule_id == earlier.rule_id for earlier in rules):
            raise UsageError(f"{file}, rule {number}: another rule before it has the rule_id {rule.rule_id!r}")
        rules.append(rule)
    return rules
