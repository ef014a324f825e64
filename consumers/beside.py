"""Threads that work beside the ranking, and not in its way."""

from __future__ import annotations

import os
import sys
import threading

import faiss

NICENESS = 10
"""A core that both want goes to the ranking for ten parts of eleven."""


def stand_back() -> None:
    """Have the calling thread work on one core at most, and while the ranking leaves that. There is no way back."""
    faiss.omp_set_num_threads(1)  # FAISS goes by the calling thread
    if sys.platform == "linux":  # which ranks threads one by one; elsewhere it would be the whole process
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
