"""The two programs behind a schedule: a Prefect server, and this checkout's worker."""

import os
import socket
import sys
from datetime import UTC, datetime
from urllib.parse import urlsplit

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import WorkerFilter, WorkerFilterStatus
from prefect.settings import get_current_settings

from flows.command_line import ROOT
from flows.deploy.daemons import Background, Unready, poll
from flows.deploy.deployments import NAMES, POOL
from prefect_dvc import DvcProject
from prefect_dvc.server import answers, local_url

PREFECT = [sys.executable, "-m", "prefect"]
# The first start in a new home creates the database, slowly on a busy machine.
SERVER_SECONDS = 120
WORKER_SECONDS = 60
STOP_SECONDS = 15
# A busy server may be slow to answer.
BUSY_SECONDS = 10

SERVER = Background(ROOT, "server")
WORKER = Background(ROOT, "worker")


def address() -> str:
    """Return the URL of the API in the settings, or of a server on this machine."""
    return get_current_settings().api.url or local_url()


def stop_outdated() -> None:
    """Stop programs that started before the checkout moved or its environment changed.

    Refused while a run is under way, which would be lost.
    """
    for program in (WORKER, SERVER):
        if program.outdated():
            if DvcProject(ROOT).running:
                raise Unready(
                    f"The {program.name} must restart, because the checkout or its "
                    "environment has changed, but a run is under way; try again when "
                    "it has ended."
                )
            program.stop(STOP_SECONDS)


def start_server(url: str) -> None:
    """Start a server on this machine, unless one answers at `url`."""
    if answers(url):
        return
    if not _is_local(url):
        raise Unready(
            f"The Prefect server at {url} does not answer; start it, or set "
            "PREFECT_API_URL to another, or unset it to have one here."
        )
    if not SERVER.running() and _is_taken(url):
        if poll(lambda: answers(url), BUSY_SECONDS):
            return
        raise Unready(
            f"Port {urlsplit(url).port} is taken by a program that is not a Prefect "
            "server; end it, or choose another port: "
            "`PREFECT_SERVER_API_PORT=4201 make schedule`."
        )
    if not SERVER.running():
        SERVER.start([*PREFECT, "server", "start"], os.environ)
    SERVER.wait_until(lambda: answers(url), SERVER_SECONDS)


def start_worker(client: SyncPrefectClient, url: str) -> None:
    """Start this checkout's one worker, unless it runs; wait until it polls work."""
    if WORKER.running():
        return
    name = socket.gethostname()
    started = datetime.now(UTC)

    def polls() -> bool:
        online = WorkerFilter(status=WorkerFilterStatus(any_=["ONLINE"]))
        return any(
            worker.name == name
            and worker.last_heartbeat_time is not None
            and worker.last_heartbeat_time > started
            for worker in client.read_workers_for_work_pool(POOL, worker_filter=online)
        )

    # One run of each deployment at a time: they wait in the checkout for each other.
    options = ["--pool", POOL, "--limit", str(len(NAMES)), "--name", name]
    WORKER.start(
        [*PREFECT, "worker", "start", *options],
        {**os.environ, "PREFECT_API_URL": url},
    )
    WORKER.wait_until(polls, WORKER_SECONDS)


def _is_local(url: str) -> bool:
    """Return whether a server started on this machine would have the URL `url`."""
    local, wanted = urlsplit(local_url()), urlsplit(url)
    same_host = wanted.hostname in {local.hostname, "localhost", "127.0.0.1"}
    return same_host and local.port == wanted.port


def _is_taken(url: str) -> bool:
    """Return whether any program listens on the port of `url`."""
    wanted = urlsplit(url)
    try:
        socket.create_connection((wanted.hostname, wanted.port), 1).close()
    except OSError:
        return False
    return True
