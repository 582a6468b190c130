"""The two programs behind a schedule: a Prefect server, and this checkout's worker."""

import os
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import WorkerFilter, WorkerFilterStatus
from prefect.settings import get_current_settings

from flows.deploy import prefect_api
from flows.deploy.daemons import POLL_SECONDS, Background, Unready
from flows.deploy.deployments import NAMES, POOL
from prefect_dvc import DvcProject

ROOT = Path(__file__).resolve().parents[2]
PREFECT = [sys.executable, "-m", "prefect"]
# One run of each deployment at a time; several wait in the checkout for each other.
MOST_RUNS = len(NAMES)
# The first start in a new home makes the database; on a busy machine that takes long.
SERVER_SECONDS = 120
WORKER_SECONDS = 60
STOP_SECONDS = 15
# A server at work may be slow to answer.
BUSY_SECONDS = 10

SERVER = Background(ROOT, "server")
WORKER = Background(ROOT, "worker")


def stop_outdated() -> None:
    """Stop what runs of a checkout before its move, or of a replaced environment.

    Raises:
        Unready: a run is under way, which would be lost.
    """
    for program in (WORKER, SERVER):
        if program.outdated():
            if DvcProject(ROOT).running:
                raise Unready(
                    f"The {program.name} must be started again, because the checkout "
                    "or its environment has changed, but a run is under way; type "
                    "this again when it has ended."
                )
            program.stop(STOP_SECONDS)


def start_server(url: str) -> None:
    """Let a server answer at `url`: start it here if there is none.

    Raises:
        Unready: it is elsewhere, or something is in its way.
    """
    if prefect_api.answers(url):
        return
    if not prefect_api.is_local(url):
        raise Unready(
            f"The Prefect server at {url} does not answer; start it, or name another "
            "in PREFECT_API_URL, or none to have one here."
        )
    if not SERVER.running():
        _refuse_taken_port(url)
        SERVER.start([*PREFECT, "server", "start"], dict(os.environ))
    SERVER.wait_until(lambda: prefect_api.answers(url), SERVER_SECONDS)


def _refuse_taken_port(url: str) -> None:
    deadline = time.monotonic() + BUSY_SECONDS
    while prefect_api.taken(url) and not prefect_api.answers(url):
        if time.monotonic() > deadline:
            port = get_current_settings().server.api.port
            raise Unready(
                f"Port {port} is taken by a program that is no Prefect server; end it, "
                "or choose another: `PREFECT_SERVER_API_PORT=4201 make schedule`."
            )
        time.sleep(POLL_SECONDS)


def start_worker(client: SyncPrefectClient, url: str) -> None:
    """Start the checkout's one worker, if it does not run.

    Raises:
        Unready: it ended at once; with its log's last line.
    """
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
