"""Run a step as a command: its arguments, its thread budget, its errors as sentences.

Exit status: 0 done; 1 something given can't be used (one sentence on standard error);
75 (EX_TEMPFAIL) something outside was unavailable and a second try may pass.
"""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from threadpoolctl import threadpool_limits

from tasks.settings import BadInput

# One thread for every step: on matrices as small as these it is the fastest number, a
# busy neighbour can't stall it at a barrier, and the sums are the same on any machine
# whatever its number of cores. The flow uses the cores by running steps side by side.
THREADS = 1


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
        step()
    except BadInput as error:
        _fail(step, str(error), error.exit_code)
    except FileNotFoundError as error:
        _fail(step, f"{error.filename} is missing; run `dvc repro` to make it.", 1)
    except OSError as error:
        _fail(step, f"{error.filename or 'input/output'}: {error.strerror}.", 1)
    except MemoryError:
        _fail(step, "out of memory; close other programs or use less data.", 1)
    sys.exit(0)


def _fail(step: Callable[[], None], sentence: str, status: int) -> NoReturn:
    name = sys.modules[step.__module__].__spec__
    print(f"{name.name if name else step.__module__}: {sentence}", file=sys.stderr)
    sys.exit(status)
