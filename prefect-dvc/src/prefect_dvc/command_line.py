"""Run a flow from the command line.

Exit status: 0 if the flow completed, 1 if not, 130 if Ctrl-C stopped it.
"""

import sys
from collections.abc import Callable
from typing import Any, NoReturn

from prefect_dvc.server import connected


def run_flow(flow: Callable[..., Any], **parameters: Any) -> NoReturn:
    """Run `flow` on the Prefect server that is up, or a temporary one, and exit."""
    try:
        with connected():
            state = flow(**parameters, return_state=True)
    except KeyboardInterrupt:
        print("Stopped by Ctrl-C; run it again to continue.", file=sys.stderr)
        sys.exit(130)
    sys.exit(0 if state.is_completed() else 1)
