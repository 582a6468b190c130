"""Run a step as a command: arguments, thread limit, one-sentence errors.

Exit status: 0 success; 1 invalid input (one sentence on standard error); 75
(EX_TEMPFAIL) something outside was unavailable and a retry may succeed; 130 and 143,
as in shells, interrupted by SIGINT and terminated by SIGTERM.
"""

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from threadpoolctl import threadpool_limits

from tasks.runtime.params import BadInput

# Each step uses one thread: for matrices this small it is fastest, other processes
# can't stall it at a barrier, and sums don't depend on the number of cores. The flow
# uses all cores by running steps side by side.
THREADS = 1

ADVICE = {
    errno.EACCES: "; make it writable",
    errno.EDQUOT: "; free some space and run again",
    errno.EFBIG: "; allow larger files and run again",
    errno.EMFILE: "; allow more open files (`ulimit -n`) and run again",
    errno.ENOSPC: "; free some space and run again",
    errno.EROFS: "; make it writable",
}


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return an argument parser whose help is the step's docstring."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def limit_threads() -> None:
    """Limit the numeric libraries that are already loaded to `THREADS` threads."""
    threadpool_limits(THREADS)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(THREADS)


def run(step: Callable[[], None]) -> NoReturn:
    """Run `step` and exit; report errors that the user can fix in one sentence."""
    limit_threads()
    status = 1
    try:
        with _catch_signals():
            step()
        sys.exit(0)
    except BadInput as error:
        sentence, status = str(error), error.exit_code
    except FileNotFoundError as error:
        sentence = f"{error.filename} is missing; run `dvc repro` to create it."
    except OSError as error:
        sentence = describe_system_error(error)
    except MemoryError:
        sentence = "out of memory; close other programs or use less data."
    except KeyboardInterrupt:
        sentence, status = "interrupted; run it again to finish.", 128 + signal.SIGINT
    spec = sys.modules[step.__module__].__spec__
    print(f"{spec.name if spec else step.__module__}: {sentence}", file=sys.stderr)
    sys.exit(status)


def describe_system_error(error: OSError) -> str:
    """Return the file, the reason and the advice for an error, as one sentence.

    The path is relative to the current directory, if it is inside.
    """
    if error.filename is None:
        name = "input/output"
    else:
        path = Path(os.fsdecode(error.filename))
        inside = path.is_relative_to(Path.cwd())
        name = str(path.relative_to(Path.cwd()) if inside else path)
    return f"{name}: {error.strerror}{ADVICE.get(error.errno or 0, '')}."


@contextmanager
def _catch_signals() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into exceptions, so that temporary files are removed."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stop(number: int, _: object) -> None:
        # A second signal must not interrupt the clean-up.
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
