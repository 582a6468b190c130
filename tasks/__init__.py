"""The steps of the lesson and the libraries they share.

A step started with `python -m` imports libraries for a second or two before
`tasks.runtime.cli` takes over. The code below covers those seconds. It does not change
any result, so no stage of dvc.yaml depends on this file.
"""

import os
import re
import select
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

# Errors of compiled libraries that can't be loaded for lack of memory.
NO_MEMORY = (
    "cannot allocate memory",
    "error return without exception set",
    "failed to map segment",
)


def _terminate_with_engine() -> None:
    """Terminate this process when the `dvc repro` that runs it ends (on Linux).

    After `kill -9` of the engine, a stage would go on writing to the checkout.
    """
    # DVC is the parent of this process, or of the shell that started it.
    parent = os.getppid()
    status = Path(f"/proc/{parent}/status").read_text(encoding="utf-8")
    ancestors = select.poll()
    for pid in (parent, *map(int, re.findall(r"^PPid:\s*(\d+)", status, re.MULTILINE))):
        with suppress(OSError):
            ancestors.register(os.pidfd_open(pid), select.POLLIN)

    def wait() -> None:
        ancestors.poll()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _report_error(
    error_type: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Report a lack of memory in one sentence, other errors with a traceback."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(sign in text for sign in NO_MEMORY):
        step = sys.argv[0].rpartition("/")[2].removesuffix(".py")
        print(f"tasks.{step}: out of memory; close other programs.", file=sys.stderr)
    else:
        sys.__excepthook__(error_type, error, trace)


if sys.argv[0] == "-m":  # `python -m tasks.STEP`, before STEP is imported
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.excepthook = _report_error
    if "DVC_STAGE" in os.environ and hasattr(os, "pidfd_open"):
        _terminate_with_engine()
