"""What a test needs beside the broker that all share."""

from __future__ import annotations

import os

import pytest

from anabranch.harness.environment.broker import missing_for_kafka

needs_kafka = pytest.mark.skipif(
    bool(missing_for_kafka()) and os.environ.get("CI") != "true",
    reason=f"Apache Kafka needs {' and '.join(missing_for_kafka())}",
)
