"""Run a flow as a command: where it reports to, and how it ends.

Exit status: 0 if it completed, 1 if not, 130 if Ctrl-C stopped it.
"""

import sys
from collections.abc import Callable
from typing import Any, NoReturn

from flows.deploy import prefect_api


def run(flow: Callable[..., Any], **parameters: Any) -> NoReturn:
    """Run `flow` on the server that there is, and exit."""
    try:
        with prefect_api.found():
            state = flow(**parameters, return_state=True)
    except KeyboardInterrupt:
        print("Stopped by Ctrl-C; run it again to go on.", file=sys.stderr)
        sys.exit(130)
    sys.exit(0 if state.is_completed() else 1)
