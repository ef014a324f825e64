"""What works beside the ranking gets what it leaves."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from consumers.beside import NICENESS, stand_back


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ranks threads one by one")
def test_a_thread_that_stands_back_keeps_no_other_from_its_turn() -> None:
    found: list[int] = []

    def beside() -> None:
        stand_back()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = threading.Thread(target=beside)
    thread.start()
    thread.join()
    assert found == [max(NICENESS, before)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
