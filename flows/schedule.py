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
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    # Prefect reads this project's settings from the current directory, when imported.
    os.chdir(ROOT)

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import WorkerFilter, WorkerFilterStatus
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from prefect.states import Cancelling, Crashed

from flows import alarms, deployments, server
from flows.background import POLL_SECONDS, Background, Unready, alone
from flows.deployments import NAMES, NIGHTLY, POOL, Schedule
from flows.stages import working
from tasks.settings import BadInput, load

PREFECT = [sys.executable, "-m", "prefect"]
# One run of each deployment at a time; several wait in the checkout for each other.
MOST_RUNS = len(NAMES)
# The first start in a new home makes the database; on a busy machine that takes long.
SERVER_SECONDS = 120
WORKER_SECONDS = 60
# The server looks for new deployments every five seconds.
SCHEDULER_SECONDS = 60
CANCEL_SECONDS = 60
STOP_SECONDS = 15

LOST = "Its worker was gone, so it can't go on; the next run takes up what it had done."

SERVER = Background(ROOT, "server")
WORKER = Background(ROOT, "worker")
# There from the first deployment on, until the deployments are removed.
DEPLOYED = ROOT / ".schedule" / "deployed"


def start() -> None:
    """Bring everything up, and say what runs now.

    Raises:
        BadInput: params.yaml has no schedule that can be used.
        Unready: something is in the way.
    """
    schedule = load("schedule", Schedule)
    _leave_old_place()
    url = _start_server()
    with _client(url) as client:
        block = alarms.block(client, schedule.alarms)
        _deploy(client)
        alarms.put(client, block)
        _start_worker(client, url)
        _say(client, schedule)


def stop() -> None:
    """Undo what `start` did, and say what was stopped; the history stays.

    Raises:
        Unready: the server that has the deployments does not answer.
    """
    if not server.answers(server.address()) and not DEPLOYED.exists():
        WORKER.stop(STOP_SECONDS)
        print("Nothing is scheduled; `make schedule` does it.")
        return
    with _client(_start_server()) as client:
        _undeploy(client)
        alarms.put(client, None)
    DEPLOYED.unlink(missing_ok=True)
    WORKER.stop(STOP_SECONDS)
    ours = SERVER.stop(STOP_SECONDS)
    print(
        "Stopped: nothing is scheduled any more, and no worker runs here. The history "
        "stays."
    )
    print(
        "The Prefect server was stopped too."
        if ours
        else "The Prefect server runs on: `make schedule` had not started it."
    )


def _leave_old_place() -> None:
    """Stop what was started before the checkout was moved: its paths lead nowhere."""
    for program in (WORKER, SERVER):
        if program.elsewhere():
            program.stop(STOP_SECONDS)


def _start_server() -> str:
    """Return the address of a server that answers, started here if none does."""
    url = server.address()
    if server.answers(url):
        return url
    if not server.is_local(url):
        raise Unready(
            f"The Prefect server at {url} does not answer; start it, or unset "
            "PREFECT_API_URL to have one here."
        )
    if not SERVER.running():
        _refuse_taken_port(url)
        SERVER.start([*PREFECT, "server", "start"], dict(os.environ))
    SERVER.wait_until(lambda: server.answers(url), SERVER_SECONDS)
    return url


def _refuse_taken_port(url: str) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    # A server that is busy is given time to answer after all.
    while server.taken(url) and not server.answers(url):
        if time.monotonic() > deadline:
            port = get_current_settings().server.api.port
            raise Unready(
                f"Port {port} is taken by a program that is no Prefect server; end it, "
                "or choose another: `PREFECT_SERVER_API_PORT=4201 make schedule`."
            )
        time.sleep(POLL_SECONDS)


@contextmanager
def _client(url: str) -> Iterator[SyncPrefectClient]:
    with (
        temporary_settings({PREFECT_API_URL: url}),
        get_client(sync_client=True) as client,
    ):
        yield client


def _deploy(client: SyncPrefectClient) -> None:
    """Let the deployments be those of prefect.yaml and params.yaml, of this place."""
    found = deployments.existing(client)
    before = [
        folder
        for folder in deployments.folders(found.values())
        if folder != str(ROOT)
    ]
    for folder in before:
        if Background(Path(folder), "worker").running():
            raise Unready(
                f"The checkout in {folder} is scheduled on this server; type "
                "`make unschedule` there first."
            )
    if not WORKER.running() and not working(ROOT):
        # Nobody else will ever end them, and the next run would wait for their slot.
        lost = deployments.under_way(client, found.values())
        deployments.put(client, lost, Crashed(message=LOST))
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    # A deployment made anew loses its runs that are late or wait.
    if not deployments.current(found, deployments.describe()["version"]):
        DEPLOYED.touch()
        deployments.deploy(ROOT)
    for folder in before:
        print(f"The deployments pointed to {folder}; they point to {ROOT} now.")


def _undeploy(client: SyncPrefectClient) -> None:
    """Remove the deployments, and cancel the runs that are under way."""
    found = deployments.existing(client)
    runs = deployments.under_way(client, found.values())
    for deployment in found.values():
        client.delete_deployment(deployment.id)
    worker = WORKER.running()
    state = Cancelling() if worker else Crashed(message=LOST)
    deployments.put(client, runs, state)
    deadline = time.monotonic() + CANCEL_SECONDS
    for run in runs:
        while not (ended := client.read_flow_run(run.id).state).is_final():
            if time.monotonic() > deadline:
                raise Unready(f"Run {run.name} did not end when it was cancelled.")
            time.sleep(POLL_SECONDS)
        print(f"Run {run.name} was under way; it is {ended.name} now.")


def _start_worker(client: SyncPrefectClient, url: str) -> None:
    """Start the checkout's one worker, if it does not run."""
    if WORKER.running():
        return
    name = socket.gethostname()
    limit = ["--limit", str(MOST_RUNS), "--name", name]
    asked = datetime.now(UTC)

    def polls() -> bool:
        online = WorkerFilter(status=WorkerFilterStatus(any_=["ONLINE"]))
        return any(
            worker.name == name
            and worker.last_heartbeat_time is not None
            and worker.last_heartbeat_time > asked
            for worker in client.read_workers_for_work_pool(POOL, worker_filter=online)
        )

    WORKER.start(
        [*PREFECT, "worker", "start", "--pool", POOL, *limit],
        dict(os.environ) | {"PREFECT_API_URL": url},
    )
    WORKER.wait_until(polls, WORKER_SECONDS)


def _say(client: SyncPrefectClient, schedule: Schedule) -> None:
    """Say in three lines what runs, when, and how to watch and stop it."""
    nightly = client.read_deployment_by_name(NIGHTLY)
    deadline = time.monotonic() + SCHEDULER_SECONDS
    while (planned := deployments.next_run(client, nightly)) is None:
        if time.monotonic() > deadline:
            raise Unready(
                f"The server made no run of {NIGHTLY} in {SCHEDULER_SECONDS} s; its log "
                f"says why: {SERVER.log} if `make schedule` started it."
            )
        time.sleep(POLL_SECONDS)
    when = planned.astimezone(ZoneInfo(schedule.timezone))
    names = ", ".join(name.partition("/")[2] for name in NAMES)
    told = f"alarms go to {schedule.alarms}" if schedule.alarms else "no alarms"
    print(f"A worker in {ROOT} runs the deployments {names}; {told}.")
    print(f"The next run is nightly's, {when:%A %d %B %Y at %H:%M} {schedule.timezone}.")
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
