"""Run a step as a command: its arguments, its thread budget, its errors as sentences.

Exit status: 0 done; 1 something given can't be used (one sentence on standard error);
75 (EX_TEMPFAIL) something outside was unavailable and a second try may pass; 130 and
143, as shells count, interrupted and told to end.
"""

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from threadpoolctl import threadpool_limits

from tasks.runtime.params import BadInput

# One thread for every step: on matrices as small as these it is the fastest number, a
# busy neighbour can't stall it at a barrier, and the sums are the same on any machine
# whatever its number of cores. The flow uses the cores by running steps side by side.
THREADS = 1

ADVICE = {
    errno.EACCES: "; make it writable",
    errno.EDQUOT: "; make room and run again",
    errno.EFBIG: "; allow larger files and run again",
    errno.EMFILE: "; allow more open files (`ulimit -n`) and run again",
    errno.ENOSPC: "; make room and run again",
    errno.EROFS: "; make it writable",
}


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return an argument parser whose help is the step's own docstring."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def limit_threads() -> None:
    """Hold the numeric libraries that are loaded by now to `THREADS` threads."""
    threadpool_limits(THREADS)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(THREADS)


def run(step: Callable[[], None]) -> NoReturn:
    """Run `step` and exit, turning what the user can mend into one sentence."""
    limit_threads()
    try:
        with _ends_in_order():
            step()
    except BadInput as error:
        _fail(step, str(error), error.exit_code)
    except FileNotFoundError as error:
        _fail(step, f"{error.filename} is missing; run `dvc repro` to make it.", 1)
    except OSError as error:
        _fail(step, told(error), 1)
    except MemoryError:
        _fail(step, "out of memory; close other programs or use less data.", 1)
    except KeyboardInterrupt:
        _fail(step, "interrupted; run it again to have it done.", 128 + signal.SIGINT)
    sys.exit(0)


def told(error: OSError) -> str:
    """Say where the system refused what, and what to do, in one sentence."""
    advice = ADVICE.get(error.errno or 0, "")
    return f"{_from_here(error.filename)}: {error.strerror}{advice}."


@contextmanager
def _ends_in_order() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the step like any other error.

    So what it was writing is removed. Otherwise SIGTERM ends Python on the spot.
    """

    def end(number: int, _: object) -> None:
        # Whoever asks twice must not interrupt the tidying up.
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        signal.signal(each, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _from_here(path: str | bytes | None) -> str:
    """Return the path as the user knows it, who thinks of the project's folder."""
    if path is None:
        return "input/output"
    with suppress(ValueError):
        return str(Path(os.fsdecode(path)).relative_to(Path.cwd()))
    return os.fsdecode(path)


def _fail(step: Callable[[], None], sentence: str, status: int) -> NoReturn:
    name = sys.modules[step.__module__].__spec__
    print(f"{name.name if name else step.__module__}: {sentence}", file=sys.stderr)
    sys.exit(status)
