"""The state in which a flow or task ends, with one sentence for the operator."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from prefect_dvc import PrefectDvcError, Stopped
from tasks.runtime.params import BadInput

P = ParamSpec("P")


def errors_as_states(body: Callable[P, State[Any]]) -> Callable[P, State[Any]]:
    """Decorate the body of a flow or task: an expected error becomes a failed state."""

    @functools.wraps(body)
    def run(*arguments: P.args, **options: P.kwargs) -> State[Any]:
        try:
            return body(*arguments, **options)
        except Stopped:
            sentence = f"{body.__name__} was stopped with the flow."
            return Failed(name="Stopped", message=sentence)
        except (BadInput, PrefectDvcError) as error:
            return Failed(message=str(error))

    return run


def with_gate(stages: State[Any], gate: State[Any]) -> State[Any]:
    """Return the state of a run whose best model was compared with the champion.

    Its name is Completed, Failed, or Refused: every stage is up to date, but the model
    did not pass the gate, and the champion stays.
    """
    message = f"{gate.message} {stages.message}"
    if not gate.is_completed():
        return Failed(message=message)
    return Completed(
        name="Refused" if gate.name == "Refused" else None, message=message
    )
