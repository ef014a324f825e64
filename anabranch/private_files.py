"""Files that only the user of this process may read: the data folder has events, and with them user ids."""

from __future__ import annotations

import os
from pathlib import Path

PRIVATE_UMASK = 0o077
SHARED_FOLDER, SHARED_FILE = 0o755, 0o644


def protect(data_dir: Path) -> None:
    """What this process creates from now on is its user's alone (0700, 0600), and so is the data folder.

    A folder of another user stays as it is: its owner decides who may read it.
    """
    os.umask(PRIVATE_UMASK)
    if data_dir.is_dir():
        status = data_dir.stat()
        if status.st_uid == os.geteuid() and status.st_mode & PRIVATE_UMASK:
            data_dir.chmod(0o700)


def share(folder: Path) -> None:
    """Let other users of this machine read a folder and its files: rankers and retraining job may be different users.

    In the data folder, where it lies by default, nobody else gets to it.
    """
    folder.chmod(SHARED_FOLDER)
    for path in folder.iterdir():
        if path.is_file():
            path.chmod(SHARED_FILE)
