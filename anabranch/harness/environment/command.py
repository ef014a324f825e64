"""What the commands of the harness have in common: an orderly end on SIGTERM, a quiet log."""

from __future__ import annotations

import logging
import signal


def prepare_command() -> None:
    """Handle SIGTERM like Ctrl-C, so that brokers and processes are stopped, and silence kafka-python.

    kafka-python logs an error for every socket that its peer closes first, which killed brokers do all the time.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
