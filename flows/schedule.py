"""Run the pipeline on a clock: `python -m flows.schedule [--stop]`, `make schedule`.

Uses the Prefect server that runs, or starts one; makes the work pool, the deployments
of prefect.yaml and the alarms; starts one worker for this checkout. What is there
already stays as it is, so that it can be typed at any time: after a reboot, after an
edit of params.yaml, or to see what runs. `--stop` undoes all of it and keeps the
history. Exit status: 0 if everything is as it says; 1, with one sentence, if not.
"""
# ruff: noqa: E402  # it changes to the project's folder before Prefect is imported

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    # Prefect reads this project's settings from the current directory, when imported.
    os.chdir(ROOT)

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from prefect.states import Cancelled, Cancelling, Crashed

from flows.deploy import cron, deployments, notifications, prefect_api, services
from flows.deploy.cron import Schedule
from flows.deploy.daemons import POLL_SECONDS, Background, Unready, alone
from flows.deploy.deployments import NAMES, NIGHTLY, POOL
from flows.deploy.services import SERVER, STOP_SECONDS, WORKER
from prefect_dvc import DvcProject
from tasks.runtime.params import BadInput, load

CANCEL_SECONDS = 60

LOST = "Its worker was gone, so it can't go on; the next run takes up what it had done."

# The address of the server that has the deployments, until they are removed.
DEPLOYED = ROOT / ".schedule" / "deployed"


def start() -> None:
    """Bring everything up, and say what runs now.

    Raises:
        BadInput: params.yaml has no schedule that can be used.
        Unready: something is in the way.
    """
    schedule = load("schedule", Schedule)
    services.stop_outdated()
    url = prefect_api.address()
    if _deployed_on() not in {url, None}:
        raise Unready(
            f"The deployments are on the server at {_deployed_on()}, but the settings "
            f"of Prefect name {url} now; type `make unschedule` first."
        )
    services.start_server(url)
    with _client(url) as client:
        block = notifications.block(client, schedule.alarms)
        _deploy(client, url)
        notifications.put(client, block)
        services.start_worker(client, url)
        _say(client, schedule)


def stop() -> None:
    """Undo what `start` did, and say what was stopped; the history stays.

    Raises:
        Unready: the server that has the deployments does not answer.
    """
    url = _deployed_on() or prefect_api.address()
    removed = False
    if _deployed_on() or prefect_api.answers(url):
        services.start_server(url)
        with _client(url) as client:
            removed = _undeploy(client)
    DEPLOYED.unlink(missing_ok=True)
    worker, ours = WORKER.stop(STOP_SECONDS), SERVER.stop(STOP_SECONDS)
    if removed or worker:
        print("Stopped: nothing is scheduled any more; the history stays.")
    else:
        print("Nothing is scheduled here; `make schedule` does it.")
    if ours:
        print("The Prefect server was stopped too.")
    elif prefect_api.answers(url):
        print(f"The server at {url} runs on: `make schedule` had not started it.")


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
    """Let the deployments be those of prefect.yaml and params.yaml, of this place."""
    found = deployments.existing(client)
    before = {deployments.folder(one) for one in found.values()} - {str(ROOT)}
    for folder in filter(None, before):
        if Background(Path(folder), "worker").running():
            raise Unready(
                f"The checkout in {folder} is scheduled on this server; type "
                "`make unschedule` there first."
            )
    if not WORKER.running() and not DvcProject(ROOT).running:
        # Nobody else will ever end them, and the next run would wait for their slot.
        lost = deployments.under_way(client, found.values())
        deployments.put(client, lost, Crashed(message=LOST))
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    DEPLOYED.write_text(url, encoding="utf-8")
    # A deployment made anew loses its runs that are late or wait.
    if not deployments.current(found, deployments.describe()["version"]):
        deployments.deploy(ROOT, url)
    for folder in filter(None, before):
        print(f"The deployments pointed to {folder}; they point to {ROOT} now.")


def _undeploy(client: SyncPrefectClient) -> bool:
    """Remove this checkout's deployments and alarms, and cancel what is under way.

    Returns:
        whether there were any.
    """
    found = [
        deployment
        for deployment in deployments.existing(client).values()
        if not _elsewhere(deployments.folder(deployment))
    ]
    for deployment in found:
        client.pause_deployment(
            deployment.id
        )  # deletes the runs that the clock planned
    if found:
        notifications.put(client, None)
    deployments.put(client, deployments.waiting(client, found), Cancelled())
    runs = deployments.under_way(client, found)
    deployments.put(
        client, runs, Cancelling() if WORKER.running() else Crashed(message=LOST)
    )
    deadline = time.monotonic() + CANCEL_SECONDS
    for run in runs:
        while not (state := client.read_flow_run(run.id).state) or not state.is_final():
            if time.monotonic() > deadline:
                raise Unready(f"Run {run.name} did not end when it was cancelled.")
            time.sleep(POLL_SECONDS)
        print(f"Run {run.name} was under way; it is {state.name} now.")
    # Only now: a run that ends gives its slot back to its deployment's concurrency
    # limit, and Prefect 3.9 answers 500 if that is gone.
    for deployment in found:
        client.delete_deployment(deployment.id)
    return bool(found)


def _elsewhere(folder: str | None) -> bool:
    """Return whether `folder` is another checkout, and not this one before a move."""
    return folder != str(ROOT) and folder is not None and Path(folder).exists()


def _say(client: SyncPrefectClient, schedule: Schedule) -> None:
    """Say in three lines what runs, when, and how to watch and stop it."""
    nightly = client.read_deployment_by_name(NIGHTLY)
    when = cron.next_run(client, nightly, schedule)
    names = ", ".join(name.partition("/")[2] for name in NAMES)
    told = f"alarms go to {schedule.alarms}" if schedule.alarms else "no alarms"
    print(f"A worker in {ROOT} runs the deployments {names}; {told}.")
    print(
        f"The next run is nightly's, {when:%A %d %B %Y at %H:%M} {schedule.timezone}."
    )
    print(
        f"Watch it at {get_current_settings().ui_url}/deployments; stop it with "
        "`make unschedule`."
    )


def main() -> None:
    """Start or stop, and turn what is in the way into one sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.schedule",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stop", action="store_true", help="undo all of it")
    act: Callable[[], None] = stop if parser.parse_args().stop else start
    try:
        with alone(ROOT):
            act()
    except (BadInput, Unready) as error:
        sys.exit(f"flows.schedule: {error}")
    except httpx.HTTPError as error:
        sys.exit(f"flows.schedule: The Prefect server failed: {error!r}.")


if __name__ == "__main__":
    main()
