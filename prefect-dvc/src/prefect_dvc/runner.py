"""The flow behind `prefect-dvc run` and `prefect-dvc deploy`."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.settings import (
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)
from prefect.states import Completed, Failed

from prefect_dvc.display import shown
from prefect_dvc.errors import PrefectDvcError
from prefect_dvc.options import RunOptions
from prefect_dvc.project import DvcProject
from prefect_dvc.results import Events
from prefect_dvc.server import connected

FLOW_NAME = "prefect-dvc"


def _run_name() -> str:
    """Name a run after the project's folder and the targets."""
    parameters = flow_run.parameters
    folder = Path(parameters["folder"]).name
    return " ".join([folder, *(parameters.get("targets") or [])])


@flow(name=FLOW_NAME, flow_run_name=_run_name, validate_parameters=False)
def run_project(
    folder: str,
    targets: list[str] | None = None,
    options: dict[str, bool] | None = None,
    jobs: int | None = None,
    *,
    wait: bool = True,
    events: Events | None = None,
) -> State[Any]:
    """Run the stages of a DVC project.

    Args:
        folder: of the project.
        targets: as for `dvc repro`.
        options: those of `dvc repro` that are on, such as `{"force": true}`.
        jobs: how many stages run at a time; the number of cores if None.
        wait: wait while another run works in the project; otherwise fail at once.
        events: receives the events of the run.
    """
    try:
        project = DvcProject(folder, jobs=jobs, wait=wait)
        with project.open(targets, events=events, **(options or {})) as run:
            run.submit_all()
            result = run.wait()
        if events:
            events.finished(result)
    except PrefectDvcError as error:
        return Failed(message=str(error))
    return (Completed if result.ok else Failed)(message=result.summary)


def run_in_terminal(
    folder: Path, options: RunOptions, *, jobs: int | None, wait: bool, verbose: bool
) -> State[Any]:
    """Run the stages of a DVC project, and show the run in the terminal."""
    settings = temporary_settings(
        {
            # Heartbeats show that a run on a worker is alive; here its user sees it.
            # The flow would wait for their thread, up to a second.
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
            # A temporary server needs longer than 20 s on a busy machine, and reports
            # an error where it can't send its statistics.
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 90,
            PREFECT_SERVER_ANALYTICS_ENABLED: False,
        }
    )
    with connected(), settings, shown(verbose=verbose) as events:
        state: State[Any] = run_project(
            str(folder),
            list(options.targets) or None,
            options.enabled(),
            jobs,
            wait=wait,
            events=events,
            return_state=True,
        )
    return state
