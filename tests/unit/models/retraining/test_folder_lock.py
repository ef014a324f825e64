from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from models.retraining.folder_lock import FolderInUse, locked

HOLDER = """
import sys, time
from pathlib import Path
from models.retraining.folder_lock import locked

with locked(Path(sys.argv[1]), "works") as lock:
    lock.note("r0001")
    lock.note("r0002")
    print("locked", flush=True)
    time.sleep(600)
"""


def test_a_lock_is_free_again_after_its_block_and_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path / "lock", "works"):
        raise RuntimeError
    with locked(tmp_path / "lock", "works") as lock:
        assert lock.killed_holder is None


def test_the_second_is_told_who_holds_the_lock_and_gets_it_once_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
            said = f"process {holder.pid} on {socket.gethostname()} works: wait until it has ended, or stop it"
            with pytest.raises(FolderInUse, match=said), locked(path, "works"):
                pass
        finally:
            os.kill(holder.pid, signal.SIGKILL)
    with locked(path, "works") as lock:
        assert path.read_text() == f"process {os.getpid()} on {socket.gethostname()}"
        assert lock.killed_holder == f"process {holder.pid} on {socket.gethostname()}"
        assert lock.notes == ("r0001", "r0002")
    with locked(path, "works") as lock:
        assert (lock.killed_holder, lock.notes) == (None, ()), "the last holder released it"
