from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import hashlib, logging, sys, time
from anabranch.shutdown import exit_at_once, stop_on_signals

logging.basicConfig()
stop = stop_on_signals(within_s=0.5)
print("ready", flush=True)
{work}
print("finished", flush=True)
"""
NATIVE = 'hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)'
"""Minutes of native code, in which no Python code of the main thread runs."""


def signalled(work: str) -> tuple[int, str, float]:
    """Exit code, output, and seconds from SIGTERM to the end of a program that does `work`."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(work=work)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
        return process.returncode, output, time.monotonic() - started
    finally:
        process.kill()


@pytest.mark.parametrize("work", [NATIVE, "while True: pass"], ids=["native code", "Python code"])
def test_work_that_does_not_look_at_the_stop_is_cut_short(work: str) -> None:
    code, output, seconds = signalled(work)
    assert code == 1
    assert "the shutdown did not finish within 0.5 s" in output
    assert 0.5 <= seconds < 5


def test_a_stopped_process_need_not_wait_for_the_teardown_of_the_interpreter() -> None:
    teardown = "import atexit; atexit.register(time.sleep, 60)"
    code, output, seconds = signalled(f"{teardown}; stop.wait(60); print('closed'); exit_at_once()")
    assert (code, output) == (0, "closed\n")
    assert seconds < 5


def test_work_that_ends_at_the_stop_ends_by_itself() -> None:
    code, output, _ = signalled("stop.wait(60)")
    assert (code, output) == (0, "finished\n")
