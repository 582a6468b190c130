"""How a run of the pipeline ends: one state, and one sentence an operator understands.

Its name in the UI is Completed, Failed, or Refused: all stages are up to date then, but
the best model did not pass the gate, and the champion stayed.
"""

from collections.abc import Sequence
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

# A task that was not tried, because one that it needs did not complete.
NOT_TRIED = "NotReady"


def of_stages(states: Sequence[State[Any]]) -> State[Any]:
    """Return how a run ends as far as its stages decide it."""
    left = sum(state.name == NOT_TRIED for state in states)
    reasons = [
        str(state.message)
        for state in states
        if not state.is_completed() and state.name != NOT_TRIED
    ]
    if reasons:
        rest = [f"Not tried, since they need it: {left} stages."] if left else []
        return Failed(message=" ".join([*dict.fromkeys(reasons), *rest]))
    cached = sum(state.name == "Cached" for state in states)
    return Completed(message=f"Stages: {len(states) - cached} ran, {cached} Cached.")


def with_gate(stages: State[Any], gate: State[Any]) -> State[Any]:
    """Return how a run ends whose best model was held to the gate."""
    said = f"{gate.message} {stages.message}"
    if not gate.is_completed():
        return Failed(message=said)
    return Completed(name="Refused" if gate.name == "Refused" else None, message=said)
