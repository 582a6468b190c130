"""Run the pipeline on a schedule: `python -m flows.schedule [--stop]`, `make schedule`.

Uses the Prefect server that runs, or starts one; creates the work pool, the deployments
of prefect.yaml and the alarms; starts one worker for this checkout. It leaves
alone what exists, so the command can be repeated at any time: after a reboot, after an
edit of params.yaml, or to see what runs. `--stop` undoes all of it and keeps the
history.

Exit status: 0 if everything runs (or has stopped); 1, with one sentence, if not.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flows.command_line import ROOT, enter_project, parser

if __name__ == "__main__":
    enter_project()

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from prefect.states import Cancelled, Cancelling, Crashed

from flows.deploy import cron, deployments, notifications, services
from flows.deploy.cron import Schedule
from flows.deploy.daemons import Background, Unready, exclusive, poll
from flows.deploy.services import SERVER, STOP_SECONDS, WORKER
from prefect_dvc import DvcProject
from prefect_dvc.server import answers
from tasks.runtime.params import BadInput, load

STARTED = {StateType.PENDING, StateType.RUNNING, StateType.CANCELLING}
CANCEL_SECONDS = 60

LOST = "Its worker is gone, so it can't continue; the next run reuses what it had done."

# Holds the URL of the server that has the deployments, until they are removed.
DEPLOYED = ROOT / ".schedule" / "deployed"


def start() -> None:
    """Start everything and print what runs."""
    schedule = load("schedule", Schedule)
    services.stop_outdated()
    url = services.address()
    if _deployed_on() not in {url, None}:
        raise Unready(
            f"The deployments are on the server at {_deployed_on()}, but the settings "
            f"of Prefect name {url} now; type `make unschedule` first."
        )
    services.start_server(url)
    with _client(url) as client:
        block = notifications.notification_block(client, schedule.alarms)
        _deploy(client, url)
        notifications.send_to(client, block)
        services.start_worker(client, url)
        _report(client, schedule)


def stop() -> None:
    """Undo what `start` did and print what was stopped; the history stays."""
    url = _deployed_on() or services.address()
    removed = False
    if _deployed_on() or answers(url):
        services.start_server(url)
        with _client(url) as client:
            removed = _undeploy(client)
    DEPLOYED.unlink(missing_ok=True)
    worker, server = WORKER.stop(STOP_SECONDS), SERVER.stop(STOP_SECONDS)
    if removed or worker:
        print("Stopped: nothing is scheduled any more; the history stays.")
    else:
        print("Nothing is scheduled here; `make schedule` does it.")
    if server:
        print("The Prefect server was stopped too.")
    elif answers(url):
        print(f"The server at {url} still runs: `make schedule` had not started it.")


def _deployed_on() -> str | None:
    return DEPLOYED.read_text(encoding="utf-8") if DEPLOYED.exists() else None


@contextmanager
def _client(url: str) -> Iterator[SyncPrefectClient]:
    with (
        temporary_settings({PREFECT_API_URL: url}),
        get_client(sync_client=True) as client,
    ):
        yield client


def _deploy(client: SyncPrefectClient, url: str) -> None:
    """Bring the deployments up to date with prefect.yaml, params.yaml and this folder.

    Another checkout's deployments are taken over only if its worker is stopped.
    """
    found = deployments.existing(client)
    folders = {deployments.folder(deployment) for deployment in found}
    moved_from = [folder for folder in folders if folder and folder != str(ROOT)]
    for folder in moved_from:
        if Background(Path(folder), "worker").running():
            raise Unready(
                f"The checkout in {folder} is scheduled on this server; type "
                "`make unschedule` there first."
            )
    if not WORKER.running() and not DvcProject(ROOT).running:
        # No worker will end these runs, and the next one would wait for their slots.
        for run in deployments.runs(client, found, STARTED):
            client.set_flow_run_state(run.id, Crashed(message=LOST), force=True)
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=deployments.POOL, type="process"))
    DEPLOYED.write_text(url, encoding="utf-8")
    # Only if needed: an update deletes the runs that are late or wait.
    if not deployments.up_to_date(found, deployments.describe()["version"]):
        deployments.deploy(ROOT, url)
    for folder in moved_from:
        print(f"The deployments pointed to {folder}; they point to {ROOT} now.")


def _undeploy(client: SyncPrefectClient) -> bool:
    """Remove this checkout's deployments and alarms, and cancel their runs.

    Returns whether there were any deployments.
    """
    found = [
        deployment
        for deployment in deployments.existing(client)
        if not _is_other_checkout(deployments.folder(deployment))
    ]
    if not found:
        return False
    for deployment in found:
        # Also deletes the planned runs.
        client.pause_deployment(deployment.id)
    notifications.send_to(client, None)
    # First the runs that wait: they would start when the others end.
    for run in deployments.runs(client, found, {StateType.SCHEDULED}):
        client.set_flow_run_state(run.id, Cancelled(), force=True)
    started = deployments.runs(client, found, STARTED)
    end: State[None] = Cancelling() if WORKER.running() else Crashed(message=LOST)
    for run in started:
        client.set_flow_run_state(run.id, end, force=True)
    for run in started:
        print(f"Run {run.name} was under way; it is {_final_state(client, run)} now.")
    # Last: a run that ends frees its slot in the concurrency limit of its deployment,
    # and Prefect 3.9 answers 500 if that is gone.
    for deployment in found:
        client.delete_deployment(deployment.id)
    return True


def _is_other_checkout(folder: str | None) -> bool:
    """Return whether `folder` is a checkout, and not this one before it was moved."""
    return folder != str(ROOT) and folder is not None and Path(folder).exists()


def _final_state(client: SyncPrefectClient, run: FlowRun) -> str | None:
    """Wait for a run to end; return the name of its state."""

    def final_state() -> State | None:
        state = client.read_flow_run(run.id).state
        return state if state and state.is_final() else None

    if state := poll(final_state, CANCEL_SECONDS):
        return state.name
    raise Unready(f"Run {run.name} did not end when it was cancelled.")


def _report(client: SyncPrefectClient, schedule: Schedule) -> None:
    """Print in three lines what runs, when, and how to watch and stop it."""
    nightly = client.read_deployment_by_name(f"mnist-sgd/{deployments.NIGHTLY}")
    start = cron.next_run(client, nightly, schedule)
    names = ", ".join(deployments.NAMES)
    alarms = f"alarms go to {schedule.alarms}" if schedule.alarms else "no alarms"
    print(f"A worker in {ROOT} runs the deployments {names}; {alarms}.")
    print(
        f"The next run is nightly's, {start:%A %d %B %Y at %H:%M} {schedule.timezone}."
    )
    page = f"{get_current_settings().ui_url}/deployments"
    print(f"Watch it at {page}; stop it with `make unschedule`.")


def main() -> None:
    """Start or stop; print what prevents it as one sentence."""
    arguments = parser("flows.schedule", __doc__)
    arguments.add_argument("--stop", action="store_true", help="undo all of it")
    act = stop if arguments.parse_args().stop else start
    try:
        with exclusive(ROOT):
            act()
    except (BadInput, Unready) as error:
        sys.exit(f"flows.schedule: {error}")
    except httpx.HTTPError as error:
        sys.exit(f"flows.schedule: The Prefect server failed: {error!r}.")


if __name__ == "__main__":
    main()
