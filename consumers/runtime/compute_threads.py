"""Threads that compute beside others in one process."""

from __future__ import annotations

import sys

from threadpoolctl import threadpool_limits

THREAD_SWITCH_S = 0.0005
"""How long a thread may keep the GIL from the others, for which Python's own 5 ms are long: a thread that publishes, or
that speaks HTTP, would keep one that ranks from it, which needs the GIL for a moment between two long calls, or be kept
from it."""


def use_one_thread_per_call() -> None:
    """FAISS and NumPy would spread each call over all cores; the process shares them out itself."""
    threadpool_limits(1)


def switch_threads_often() -> None:
    """Let the threads of this process take turns after `THREAD_SWITCH_S`, from now on."""
    sys.setswitchinterval(THREAD_SWITCH_S)
