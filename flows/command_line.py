"""Shared code of the flows' command lines.

Prefect reads this project's settings from the current directory when it is imported, so
a flow's module calls `enter_project` before it imports Prefect.
"""

import argparse
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent


def enter_project() -> None:
    """Change to the project's folder, and prepare for the imports that follow."""
    # A collection during the imports finds nothing and takes a fifth of their time.
    gc.disable()
    os.chdir(ROOT)


def parser(module: str, doc: str | None) -> argparse.ArgumentParser:
    """Return an argument parser for `python -m MODULE`, with its docstring as help."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def run(flow: Callable[..., Any], **parameters: Any) -> NoReturn:
    """Run `flow` and exit: 0 if it completed, 1 if not, 130 after Ctrl-C."""
    from prefect_dvc.server import connected  # noqa: PLC0415  # it imports Prefect

    gc.freeze()
    gc.enable()
    try:
        with connected():
            state = flow(**parameters, return_state=True)
    except KeyboardInterrupt:
        print("Stopped by Ctrl-C; run it again to continue.", file=sys.stderr)
        sys.exit(130)
    sys.exit(0 if state.is_completed() else 1)
