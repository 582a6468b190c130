"""The deployments of prefect.yaml: what they record, and how a run of one starts.

`prefect deploy --all` calls `describe` for the schedule in params.yaml and the folder
of the checkout. Each run of a deployment first calls `enter`, which changes to it.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    FlowRunFilter,
    WorkPoolFilter,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.logging import get_logger
from prefect.states import Failed

from flows.deploy.cron import Schedule
from flows.deploy.daemons import Unready
from tasks.runtime.params import load

POOL = "mnist-sgd"
NIGHTLY = "nightly"
NAMES = (NIGHTLY, "on-demand", "batch", "rollback")
# The files from which a deployment copies something when it is made.
FLOWS = ("flows/pipeline.py", "flows/predict.py", "flows/rollback.py")
RECORDED = ("prefect.yaml", *FLOWS)


def describe() -> dict[str, str]:
    """Return what the deployments record of the checkout in the current directory.

    `version` is a hash of all of it, which shows whether a deployment is up to date.
    """
    root = Path.cwd().resolve()
    schedule = load("schedule", Schedule, root / "params.yaml")
    recorded = {"folder": str(root), **schedule.model_dump(exclude={"alarms"})}
    contents = [(root / name).read_bytes() for name in RECORDED]
    digest = hashlib.sha256(repr((recorded, contents)).encode())
    return recorded | {"version": digest.hexdigest()[:12]}


def enter(folder: str) -> dict[str, str]:
    """Change to the checkout that a deployment was made from, when a run of it starts.

    If the checkout is missing, the run's log and state say so.
    """
    if not Path(folder, "prefect.yaml").exists():
        sentence = (
            f"There is no checkout in {folder} any more; if it was moved, deploy it "
            "again with `make schedule` in its new folder."
        )
        run = os.environ["PREFECT__FLOW_RUN_ID"]
        names = {"flow_run_id": run, "flow_run_name": run}
        get_logger("prefect.flow_runs").error(sentence, extra=names)
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run, Failed(message=sentence))
        raise FileNotFoundError(sentence)
    os.chdir(folder)
    return {"directory": folder}


def existing(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """Return those of this project's deployments that the server has."""
    ours, pool = {"name": {"any_": NAMES}}, {"name": {"any_": [POOL]}}
    return client.read_deployments(
        deployment_filter=DeploymentFilter.model_validate(ours),
        work_pool_filter=WorkPoolFilter.model_validate(pool),
    )


def up_to_date(found: Iterable[DeploymentResponse], version: str) -> bool:
    """Return whether all deployments exist with this version and none is paused."""
    return {
        deployment.name
        for deployment in found
        if deployment.version == version
        and not deployment.paused
        and all(schedule.active for schedule in deployment.schedules)
    } == set(NAMES)


def folder(deployment: DeploymentResponse) -> str | None:
    """Return the folder that a deployment points to, or None if it has no such step."""
    steps = [values for step in deployment.pull_steps or [] for values in step.values()]
    return next((values["folder"] for values in steps if "folder" in values), None)


def deploy(root: Path, url: str) -> None:
    """Create or update the deployments of prefect.yaml on the server at `url`."""
    ended = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=root,
        # Without the address, Prefect would start a second server.
        env={**os.environ, "PREFECT_API_URL": url},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if ended.returncode:
        lines = [line.strip() for line in ended.stdout.splitlines() if line.strip()]
        raise Unready(f"`prefect deploy --all` failed: {lines[-1]}")


def runs(
    client: SyncPrefectClient,
    found: Iterable[DeploymentResponse],
    states: Iterable[StateType],
) -> list[FlowRun]:
    """Return the runs of deployments that are in one of these states."""
    ids = [deployment.id for deployment in found]
    chosen = {"deployment_id": {"any_": ids}, "state": {"type": {"any_": [*states]}}}
    flow_runs = FlowRunFilter.model_validate(chosen)
    return client.read_flow_runs(flow_run_filter=flow_runs) if ids else []
