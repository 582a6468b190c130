"""How a run appears in the Prefect UI: its name, its tags, and its final state."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed

from prefect_dvc import PrefectDvcError, Stopped, retry_connection
from tasks.evaluation import metrics_file
from tasks.registry import provenance
from tasks.runtime.params import BadInput

P = ParamSpec("P")
HASH_DIGITS = 7


def errors_as_states(body: Callable[P, State[Any]]) -> Callable[P, State[Any]]:
    """Decorate the body of a flow or task: an expected error becomes a failed state."""

    @functools.wraps(body)
    def run(*arguments: P.args, **options: P.kwargs) -> State[Any]:
        try:
            return body(*arguments, **options)
        except Stopped:
            sentence = f"{body.__name__.lstrip('_')} was stopped with the flow."
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


def initial_name() -> str:
    """Return the name of a run when it starts: its deployment, and its day."""
    start: datetime = flow_run.scheduled_start_time or datetime.now(UTC)
    return f"{deployment.name or 'by hand'} {start.astimezone().date()}"


@retry_connection
def add_result(root: Path) -> None:
    """Add the best model's accuracy in validation to the running flow's name; tag it.

    If the tags were set earlier, each task would inherit them, and ask the server for a
    concurrency slot for each.
    """
    metrics = metrics_file.read(root / "reports/metrics.json")
    accuracy = metrics["models"][metrics["best"]]["valid"]["accuracy"]
    with get_client(sync_client=True) as client:
        client.update_flow_run(
            flow_run.id,
            name=f"{initial_name()} {accuracy:.4f}".replace(" 0.", " ."),
            tags={*flow_run.tags, *tags(metrics)},
        )


def tags(metrics: dict[str, Any]) -> list[str]:
    """Return the tags of a run: its data, its best model, its code."""
    code = provenance.revision()
    return [
        f"best:{metrics['best']}",
        f"data:{provenance.data()['data/raw'][:HASH_DIGITS]}",
        *([f"git:{code}"] if code else []),
    ]
