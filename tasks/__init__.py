"""The steps of the lesson, and the small libraries that they share."""

import signal
import sys
from types import TracebackType


def _out_of_memory(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say in one sentence that there is no memory for a library; else what Python does.

    Only compiled libraries know that they could not be loaded, each in its own words.
    """
    if isinstance(error, MemoryError) or "failed to map segment" in str(error):
        name = sys.argv[0].rpartition("/")[2].removesuffix(".py")
        print(f"tasks.{name}: out of memory; close other programs.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if sys.argv[0] == "-m":
    # A step is about to be found and to import its libraries, which takes a second.
    # Nothing is open yet: until `tasks.command` takes over, Ctrl-C just ends it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.excepthook = _out_of_memory
