"""The steps of the lesson, and the small libraries that they share.

Here is only how a step that `python -m` starts may end before it has begun: to import
its libraries takes a second or two, and nothing is open yet. `tasks.runtime.cli`
takes over from there. No result depends on it, so no stage does.
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

NO_MEMORY = (
    "cannot allocate memory",
    "error return without exception set",
    "failed to map segment",
)


def _follow_the_engine() -> None:
    """End with the engine that runs this process as a stage, however it ends.

    `dvc repro` that is killed leaves its stage running, which would write into a
    checkout that the next run takes for its own. (Linux alone can tell.)
    """
    if "DVC_STAGE" not in os.environ or not hasattr(os, "pidfd_open"):
        return
    import select  # noqa: PLC0415  # only a stage needs them
    import threading  # noqa: PLC0415

    ends = select.poll()
    parent = os.getppid()
    with suppress(OSError):
        # The engine is the parent of the shell that it starts, if not of this process.
        for process in (parent, _parent(parent)):
            ends.register(os.pidfd_open(process), select.POLLIN)

        def wait() -> None:
            ends.poll()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=wait, daemon=True).start()


def _parent(process: int) -> int:
    """Return the parent of a process, as Linux's proc(5) has it."""
    status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    # The name of the program, in brackets, may hold anything.
    return int(status.rpartition(")")[2].split()[1])


def _out_of_memory(
    error_type: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say in one sentence that there is no memory for a library; else what Python does.

    Only compiled libraries know that they could not be loaded, each in its own words,
    and Python itself may not know any more what it failed of.
    """
    words = str(error).lower()
    if isinstance(error, MemoryError) or any(sign in words for sign in NO_MEMORY):
        name = sys.argv[0].rpartition("/")[2].removesuffix(".py")
        print(f"tasks.{name}: out of memory; close other programs.", file=sys.stderr)
    else:
        sys.__excepthook__(error_type, error, trace)


if sys.argv[0] == "-m":  # a step is about to be found
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.excepthook = _out_of_memory
    _follow_the_engine()
