"""How a run of the pipeline ends: one state, with one sentence for the operator.

Its name in the UI is Completed, Failed, or Refused: all stages are up to date, but the
best model did not pass the gate, and the champion stayed.
"""

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from prefect_dvc import RunResult


def of_stages(result: RunResult) -> State[Any]:
    """Return the state that the stages alone give a run."""
    state = Completed if result.ok else Failed
    return state(message=result.summary)


def with_gate(stages: State[Any], gate: State[Any]) -> State[Any]:
    """Return the state of a run whose best model was compared with the champion."""
    message = f"{gate.message} {stages.message}"
    if not gate.is_completed():
        return Failed(message=message)
    return Completed(
        name="Refused" if gate.name == "Refused" else None, message=message
    )
