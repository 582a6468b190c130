"""The deployments of prefect.yaml: what they record, and how a run of one starts.

`prefect deploy --all` asks `describe` for what params.yaml says and where the checkout
is; each run of a deployment first goes there by `enter`.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_logger
from prefect.states import Failed

from flows.deploy.cron import Schedule
from flows.deploy.daemons import Unready
from tasks.runtime.params import load

POOL = "mnist-sgd"
NIGHTLY = "mnist-sgd/nightly"
NAMES = (NIGHTLY, "mnist-sgd/on-demand", "predict/batch", "rollback/rollback")
# What a deployment takes from the checkout when it is made, and not at every run.
RECORDED = (
    "prefect.yaml",
    "flows/pipeline.py",
    "flows/predict.py",
    "flows/rollback.py",
)
UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


def describe() -> dict[str, str]:
    """Return what the deployments record of the checkout in the current directory.

    Returns:
        `folder`, `cron` and `timezone`, and as `version` a hash of everything that is
        recorded, so that a deployment says whether it is up to date.

    Raises:
        BadInput: params.yaml has no schedule that can be used.
    """
    root = Path.cwd().resolve()
    schedule = load("schedule", Schedule, root / "params.yaml")
    says = {
        "folder": str(root),
        "cron": schedule.cron,
        "timezone": schedule.timezone,
    }
    contents = [(root / name).read_bytes() for name in RECORDED]
    digest = hashlib.sha256(repr((says, contents)).encode())
    return says | {"version": digest.hexdigest()[:12]}


def enter(folder: str) -> dict[str, str]:
    """Go to the checkout that a deployment was made from, when one of its runs starts.

    Raises:
        FileNotFoundError: it is not there any more; the run's log and state say so.
    """
    if not Path(folder, "prefect.yaml").is_file():
        sentence = (
            f"There is no checkout in {folder} any more; if it was moved, deploy it "
            "again with `make schedule` in its new place."
        )
        _give_up(os.environ["PREFECT__FLOW_RUN_ID"], sentence)
        raise FileNotFoundError(sentence)
    os.chdir(folder)
    return {"directory": folder}


def _give_up(flow_run: str, sentence: str) -> None:
    """Say in a run's log and state why it can't start."""
    run = {"flow_run_id": flow_run, "flow_run_name": flow_run}
    get_logger("prefect.flow_runs").error(sentence, extra=run)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run, Failed(message=sentence))


def existing(client: SyncPrefectClient) -> dict[str, DeploymentResponse]:
    """Return those of this project's deployments that the server has, by name."""
    found = {}
    for name in NAMES:
        try:
            found[name] = client.read_deployment_by_name(name)
        except ObjectNotFound:
            continue
    return found


def current(found: dict[str, DeploymentResponse], version: str) -> bool:
    """Return whether all deployments are there, up to date and not paused."""
    active = all(
        one.version == version
        and not one.paused
        and all(schedule.active for schedule in one.schedules)
        for one in found.values()
    )
    return active and found.keys() == set(NAMES)


def folder(deployment: DeploymentResponse) -> str | None:
    """Return the folder that a deployment points to, if it is of this kind."""
    steps = [values for step in deployment.pull_steps or [] for values in step.values()]
    return next((values["folder"] for values in steps if "folder" in values), None)


def deploy(root: Path, url: str) -> None:
    """Make the deployments of prefect.yaml on the server at `url`, or renew them.

    Raises:
        Unready: Prefect refuses them; its last words are in the message.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=root,
        # Without it, Prefect would start a server of its own beside the other.
        env=dict(os.environ) | {"PREFECT_API_URL": url},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if ended.returncode:
        lines = [line.strip() for line in ended.stdout.split("\n") if line.strip()]
        raise Unready(f"`prefect deploy --all` failed: {lines[-1]}")


def under_way(
    client: SyncPrefectClient, found: Iterable[DeploymentResponse]
) -> list[FlowRun]:
    """Return the runs of deployments that have begun and not ended."""
    return _runs(client, found, UNDER_WAY)


def waiting(
    client: SyncPrefectClient, found: Iterable[DeploymentResponse]
) -> list[FlowRun]:
    """Return the runs of deployments that have not begun."""
    return _runs(client, found, [StateType.SCHEDULED])


def _runs(
    client: SyncPrefectClient,
    found: Iterable[DeploymentResponse],
    types: list[StateType],
) -> list[FlowRun]:
    ids = [one.id for one in found]
    chosen = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=ids),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)),
    )
    return client.read_flow_runs(flow_run_filter=chosen) if ids else []


def put(client: SyncPrefectClient, runs: Iterable[FlowRun], state: State[None]) -> None:
    """Give runs a state, whatever the one they are in."""
    for run in runs:
        client.set_flow_run_state(run.id, state, force=True)
