"""`make schedule` with a real server and a real worker, on the small data set.

The tests share one checkout and run in their order.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from checkouts import clone
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling
from samples import ROOT
from servers import alive, wait_until

from flows.deploy import cron, deployments, notifications
from flows.deploy.cron import Schedule
from flows.schedule import LOST
from prefect_dvc import DvcProject

pytestmark = pytest.mark.slow

NIGHTLY, ON_DEMAND = "mnist-sgd/nightly", "mnist-sgd/on-demand"
# Writes its PID, then waits while the file `hold` exists.
DOWNLOAD = (
    'sh -c \'echo $$ >> "$NOTES/began"; while [ -e "$NOTES/hold" ]; do sleep 0.02; '
    "done' && python -m tasks.download"
)

STOPPED = "Stopped: nothing is scheduled any more; the history stays."
NOTHING = "Nothing is scheduled here; `make schedule` does it."


class Scheduled:
    """A small checkout with the environment of `make schedule`."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.root = root
        self.env = env
        self.url = f"http://127.0.0.1:{env['PREFECT_SERVER_API_PORT']}/api"
        self.hold = Path(env["NOTES"], "hold")
        self.began = Path(env["NOTES"], "began")

    def schedule(self, *arguments: str, **env: str) -> tuple[int, list[str]]:
        """Run `make schedule`; return its exit status and its lines."""
        ended = subprocess.run(
            [sys.executable, "-m", "flows.schedule", *arguments],
            cwd=self.root,
            env=self.env | env,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return ended.returncode, ended.stdout.splitlines()

    def pid(self, program: str) -> int:
        path = self.root / ".schedule" / f"{program}.json"
        return json.loads(path.read_text())["pid"]

    def starts(self) -> list[int]:
        """Return the PIDs of the stages that were held."""
        return [int(line) for line in self.began.read_text().split()]

    def edit(self, **schedule: object) -> None:
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        params["schedule"].update(schedule)
        path.write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture(scope="module")
def scheduled(small, tmp_path_factory):
    notes = tmp_path_factory.mktemp("notes")
    (notes / "began").touch()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    own = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    root = clone(small, "scheduled")
    (root / "prefect.yaml").write_bytes((ROOT / "prefect.yaml").read_bytes())
    graph = yaml.safe_load((root / "dvc.yaml").read_text())
    graph["stages"]["download"]["cmd"] = DOWNLOAD
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    scheduled = Scheduled(
        root,
        own
        | {
            "PREFECT_HOME": str(tmp_path_factory.mktemp("home")),
            "PREFECT_SERVER_API_PORT": str(port),
            "NOTES": str(notes),
            # The defaults are made for longer waits.
            "PREFECT_WORKER_QUERY_SECONDS": "0.5",
            "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
            "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "0.5",
        },
    )
    scheduled.edit(cron="* * * * *", timezone="Asia/Kathmandu")
    yield scheduled
    scheduled.hold.unlink(missing_ok=True)
    assert scheduled.schedule("--stop")[0] == 0


@pytest.fixture
def client(scheduled):
    with (
        temporary_settings({PREFECT_API_URL: scheduled.url}),
        get_client(sync_client=True) as client,
    ):
        yield client


def runs(client, name):
    found = client.read_deployment_by_name(name)
    chosen = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[found.id]))
    return client.read_flow_runs(flow_run_filter=chosen)


def trigger(client, **parameters):
    deployment = client.read_deployment_by_name(ON_DEMAND)
    run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
    return run.id


def state(client, run):
    return client.read_flow_run(run).state.name


def test_make_schedule_starts_everything_and_reports_it(scheduled, client):
    status, lines = scheduled.schedule()
    assert status == 0, lines
    worker, planned, watch = lines
    assert worker == (
        f"A worker in {scheduled.root} runs the deployments nightly, on-demand, "
        "batch, rollback; no alarms."
    )
    assert re.fullmatch(
        r"The next run is nightly's, \w+day \d\d \w+ \d{4} at \d\d:\d\d "
        r"Asia/Kathmandu\.",
        planned,
    )
    assert watch == (
        f"Watch it at {scheduled.url.removesuffix('/api')}/deployments; stop it with "
        "`make unschedule`."
    )
    nightly = client.read_deployment_by_name(NIGHTLY)
    (found,) = [entry.schedule for entry in nightly.schedules]
    assert (found.cron, found.timezone) == ("* * * * *", "Asia/Kathmandu")
    found = deployments.existing(client)
    assert sorted(deployment.name for deployment in found) == sorted(deployments.NAMES)
    for deployment in found:
        assert deployment.global_concurrency_limit.limit == 1
        assert deployment.concurrency_options.collision_strategy == "ENQUEUE"
        assert deployment.description.endswith("its turn.")
    assert deployments.up_to_date(found, nightly.version)
    assert not deployments.up_to_date(found, "another")
    assert not deployments.up_to_date(found[1:], nightly.version)
    paused = found[0].model_copy(update={"paused": True})
    assert not deployments.up_to_date([paused, *found[1:]], nightly.version)
    fields = nightly.parameter_openapi_schema["properties"]
    assert all(field["description"] for field in fields.values()), fields.keys()


def test_make_schedule_twice_changes_nothing(scheduled, client):
    def everything():
        found = deployments.existing(client)
        programs = [scheduled.pid(program) for program in ("server", "worker")]
        updated = {deployment.id: deployment.updated for deployment in found}
        return updated, programs

    before = everything()
    status, lines = scheduled.schedule()
    assert status == 0, lines
    assert [line.partition(",")[0] for line in lines] == [
        f"A worker in {scheduled.root} runs the deployments nightly",
        "The next run is nightly's",
        lines[2],
    ]
    assert everything() == before


def test_second_checkout_on_the_same_server_is_refused(scheduled):
    other = scheduled.root.with_name("other")
    shutil.copytree(
        scheduled.root,
        other,
        symlinks=True,
        ignore=shutil.ignore_patterns(".schedule", "cache"),
    )
    status, lines = Scheduled(other, scheduled.env).schedule()
    assert (status, len(lines)) == (1, 1), lines
    assert f"The checkout in {scheduled.root} is scheduled on this server" in lines[0]


def test_alarms_without_a_block_change_nothing(scheduled, client):
    before = client.read_deployment_by_name(NIGHTLY).updated
    scheduled.edit(cron="0 5 * * *", alarms="slack-webhook/ops")
    status, lines = scheduled.schedule()
    assert status == 1
    assert "Prefect has no block 'slack-webhook/ops'" in lines[0]
    assert len(lines) == 1
    scheduled.edit(cron="* * * * *", alarms=None)
    assert client.read_deployment_by_name(NIGHTLY).updated == before


def test_scheduled_run_starts_and_completes(scheduled, client):
    wait_until(lambda: "Completed" in ends_of_scheduled_runs(client), seconds=120)
    assert (scheduled.root / "reports" / "metrics.json").exists()


def test_planned_runs_of_an_old_schedule_are_deleted(scheduled, client):
    nightly = client.read_deployment_by_name(NIGHTLY)
    before = {run.id for run in runs(client, NIGHTLY)}
    most = Schedule(cron="0-57 * * * *", timezone="Asia/Kathmandu", alarms=None)
    assert len(cron.planned_runs(client, nightly, most)) > 30
    # The server may plan others meanwhile.
    left = [run for run in runs(client, NIGHTLY) if run.id in before]
    # 05:45 ahead of UTC, the minutes 58 and 59 are 13 and 14.
    starts = [run.next_scheduled_start_time for run in left]
    assert not {start.minute for start in starts if start} & {13, 14}


def ends_of_scheduled_runs(client):
    """Return the final states of runs that the schedule made."""
    states = [run.state for run in runs(client, NIGHTLY) if run.auto_scheduled]
    return [state.name for state in states if state.is_final()]


def test_moved_checkout_asks_to_be_deployed_again(scheduled, client):
    wait_until(lambda: not DvcProject(scheduled.root).running)
    old, new = scheduled.root, scheduled.root.with_name("moved")
    old.rename(new)
    scheduled.root = new
    run = trigger(client)
    wait_until(lambda: state(client, run) == "Failed", seconds=60)
    sentence = (
        f"There is no checkout in {old} any more; if it was moved, deploy it again "
        "with `make schedule` in its new folder."
    )
    ended = client.read_flow_run(run).state
    assert (ended.name, ended.message) == ("Failed", sentence)
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
    wait_until(lambda: sentence in [log.message for log in client.read_logs(chosen)])

    CustomWebhookNotificationBlock(name="ops", url="http://127.0.0.1:9").save("ops")
    # From here on, no scheduled run interferes.
    scheduled.edit(cron="0 5 * * *", alarms="custom-webhook/ops")
    wait_until(lambda: not DvcProject(new).running, seconds=60)
    status, lines = scheduled.schedule()
    assert (status, len(lines)) == (0, 4), lines
    assert lines[0] == f"The deployments pointed to {old}; they point to {new} now."
    assert lines[1].endswith("rollback; alarms go to custom-webhook/ops.")
    assert lines[2].endswith(" at 05:00 Asia/Kathmandu.")


def test_runs_do_not_overlap_and_a_cancelled_one_leaves_no_process(scheduled, client):
    first, child = held(scheduled, client)
    begun = len(scheduled.starts())
    second = trigger(client, targets=["download"], force=True)
    wait_until(lambda: state(client, second) == "AwaitingConcurrencySlot", seconds=60)
    assert len(scheduled.starts()) == begun
    client.set_flow_run_state(first, Cancelling())
    wait_until(lambda: state(client, first) == "Cancelled")
    wait_until(lambda: not alive(child))
    # Slot and checkout are free, so the second run starts.
    wait_until(lambda: len(scheduled.starts()) == begun + 1, seconds=60)
    scheduled.hold.unlink()
    wait_until(lambda: state(client, second) == "Completed", seconds=60)


def test_run_that_lost_its_worker_is_crashed_and_its_slot_is_free(scheduled, client):
    run, child = held(scheduled, client)
    os.kill(scheduled.pid("worker"), signal.SIGTERM)
    wait_until(lambda: not alive(child))
    scheduled.hold.unlink()
    assert state(client, run) == "Running"
    status, lines = scheduled.schedule()
    assert (status, len(lines)) == (0, 3), lines
    settled = client.read_flow_run(run).state
    assert (settled.name, settled.message) == ("Crashed", LOST)
    on_demand = client.read_deployment_by_name(ON_DEMAND)
    assert on_demand.global_concurrency_limit.active_slots == 0


def test_make_unschedule_undoes_everything_and_cancels_runs(scheduled, client):
    assert len(client.read_automations_by_name(notifications.NAME)) == 1
    run, child = held(scheduled, client)
    with pytest.MonkeyPatch.context() as patch:
        # Without its record, the command doesn't stop the server.
        patch.setitem(scheduled.env, "PREFECT_API_URL", scheduled.url)
        record = scheduled.root / ".schedule" / "server.json"
        record.rename(record.with_suffix(".away"))
        status, lines = scheduled.schedule("--stop")
        record.with_suffix(".away").rename(record)
    assert status == 0, lines
    name = client.read_flow_run(run).name
    assert lines[:2] == [f"Run {name} was under way; it is Cancelled now.", STOPPED]
    assert lines[2].startswith(f"The server at {scheduled.url} still runs")
    assert not alive(child)
    assert client.read_deployments() == []
    assert client.read_automations_by_name(notifications.NAME) == []
    kept = [run.state.name for run in client.read_flow_runs()]
    assert {"Completed", "Cancelled", "Crashed", "Failed"} == set(kept)
    stopped_too = "The Prefect server was stopped too."
    assert scheduled.schedule("--stop") == (0, [NOTHING, stopped_too])
    assert scheduled.schedule("--stop") == (0, [NOTHING])


def held(scheduled, client):
    """Start a run whose first stage waits; return the run and the stage's PID."""
    before = len(scheduled.starts())
    scheduled.hold.touch()
    run = trigger(client, targets=["download"], force=True)
    wait_until(lambda: len(scheduled.starts()) > before, seconds=60)
    return run, scheduled.starts()[-1]
