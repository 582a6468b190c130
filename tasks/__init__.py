"""The steps of the lesson, and the libraries that they share.

Importing a step's libraries takes a second or two. This module handles interruptions
until then; `tasks.runtime.cli` takes over when the step starts. Results do not depend
on it, so stages don't either.
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

# Messages of compiled libraries, and of Python itself, when memory runs out.
NO_MEMORY = (
    "cannot allocate memory",
    "error return without exception set",
    "failed to map segment",
)


def _end_with_engine() -> None:
    """Let a stage end when its engine ends, even if that is killed (only on Linux).

    A stage that outlives `dvc repro` would write while the next run is at work.
    """
    if "DVC_STAGE" not in os.environ or not hasattr(os, "pidfd_open"):
        return
    import select  # noqa: PLC0415  # only a stage needs them
    import threading  # noqa: PLC0415

    ends = select.poll()

    def wait() -> None:
        ends.poll()
        os.kill(os.getpid(), signal.SIGTERM)

    with suppress(OSError):
        # The engine is this process's parent, or the parent of the shell between them.
        # In proc(5), a program's name is in brackets and may contain anything.
        status = Path(f"/proc/{os.getppid()}/stat").read_text(encoding="utf-8")
        grandparent = int(status.rpartition(")")[2].split()[1])
        for process in (os.getppid(), grandparent):
            ends.register(os.pidfd_open(process), select.POLLIN)
        threading.Thread(target=wait, daemon=True).start()


def _out_of_memory(
    error_type: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Report missing memory in one sentence, and other errors as Python does."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(sign in text for sign in NO_MEMORY):
        name = sys.argv[0].rpartition("/")[2].removesuffix(".py")
        print(f"tasks.{name}: out of memory; close other programs.", file=sys.stderr)
    else:
        sys.__excepthook__(error_type, error, trace)


if sys.argv[0] == "-m":  # `python -m tasks.<step>` is about to import the step
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.excepthook = _out_of_memory
    _end_with_engine()
