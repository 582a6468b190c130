"""The kernel's lock on a file, which ends with the process that holds it."""

import fcntl
from typing import IO


def try_lock(file: IO[str]) -> bool:
    """Lock an open file for this process; return whether it was free."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
