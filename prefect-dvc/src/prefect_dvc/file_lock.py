"""The kernel's lock on a file, which can't outlive its holder."""

import fcntl
from typing import IO


def try_lock(file: IO[str]) -> bool:
    """Lock an open file for this process alone; return whether nobody else held it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
