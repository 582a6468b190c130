"""The pipeline on a clock: a real server and a real worker, on the small data set."""

import json
import os
import re
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
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_API_PORT,
    temporary_settings,
)
from prefect.states import Cancelling
from samples import ROOT
from servers import alive, wait_until
from webserver import serving

from flows.deploy import cron, deployments, notifications, services
from flows.deploy.cron import Schedule
from flows.deploy.daemons import Unready
from flows.schedule import LOST
from prefect_dvc import DvcProject
from tasks.runtime.params import BadInput, load

NIGHTLY, ON_DEMAND = "mnist-sgd/nightly", "mnist-sgd/on-demand"
# Waits as long as the test says so, and leaves its number.
DOWNLOAD = (
    'sh -c \'echo $$ >> "$NOTES/began"; while [ -e "$NOTES/hold" ]; do sleep 0.02; '
    "done' && python -m tasks.download"
)

STOPPED = "Stopped: nothing is scheduled any more; the history stays."
NOTHING = "Nothing is scheduled here; `make schedule` does it."


class Scheduled:
    """A small checkout, and what `make schedule` needs to know."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.root = root
        self.env = env
        self.url = f"http://127.0.0.1:{env['PREFECT_SERVER_API_PORT']}/api"
        self.hold = Path(env["NOTES"], "hold")
        self.began = Path(env["NOTES"], "began")

    def schedule(self, *arguments: str, **env: str) -> tuple[int, list[str]]:
        """Type `make schedule`; return its exit status and its lines."""
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

    def noted(self, program: str) -> int:
        path = self.root / ".schedule" / f"{program}.json"
        return json.loads(path.read_text())["pid"]

    def starts(self) -> list[int]:
        """The processes of the stages that were held."""
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
            # A day has 86,400 seconds, a test has not.
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


def test_make_schedule_starts_everything_and_says_so_in_three_lines(scheduled, client):
    status, said = scheduled.schedule()
    assert status == 0, said
    worker, planned, watch = said
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
    (kept,) = nightly.schedules
    assert (kept.schedule.cron, kept.schedule.timezone) == (
        "* * * * *",
        "Asia/Kathmandu",
    )
    for name in deployments.NAMES:
        found = client.read_deployment_by_name(name)
        assert found.global_concurrency_limit.limit == 1, name
        assert found.concurrency_options.collision_strategy == "ENQUEUE", name
        assert found.description.endswith("its turn."), name
    assert not deployments.current({NIGHTLY: nightly}, nightly.version), (
        "two are missing"
    )
    form = nightly.parameter_openapi_schema["properties"]
    assert all(field["description"] for field in form.values()), form.keys()


def test_typed_again_it_changes_nothing_and_says_the_same(scheduled, client):
    def everything():
        found = [client.read_deployment_by_name(n) for n in (NIGHTLY, ON_DEMAND)]
        programs = [scheduled.noted(program) for program in ("server", "worker")]
        return [(one.id, one.updated, one.schedules) for one in found], programs

    found = deployments.existing(client)
    version = found[NIGHTLY].version
    assert deployments.current(found, version)
    assert not deployments.current(found, "another")
    paused = found[NIGHTLY].model_copy(update={"paused": True})
    assert not deployments.current(found | {NIGHTLY: paused}, version)
    (off,) = [one.model_copy(update={"active": False}) for one in paused.schedules]
    silent = found[NIGHTLY].model_copy(update={"schedules": [off]})
    assert not deployments.current(found | {NIGHTLY: silent}, version)

    before = everything()
    status, said = scheduled.schedule()
    assert status == 0, said
    assert [line.partition(",")[0] for line in said] == [
        f"A worker in {scheduled.root} runs the deployments nightly",
        "The next run is nightly's",
        said[2],
    ]
    assert everything() == before


def test_alarms_without_their_block_change_nothing(scheduled, client):
    before = client.read_deployment_by_name(NIGHTLY).updated
    scheduled.edit(cron="0 5 * * *", alarms="slack-webhook/ops")
    status, said = scheduled.schedule()
    assert status == 1
    assert said[0].startswith(
        "flows.schedule: Prefect has no block 'slack-webhook/ops', which params.yaml "
    )
    assert len(said) == 1
    scheduled.edit(cron="* * * * *", alarms=None)
    assert client.read_deployment_by_name(NIGHTLY).updated == before


def test_a_run_of_the_clock_is_made_and_runs(scheduled, client):
    wait_until(lambda: "Completed" in by_the_clock(client), seconds=120)
    assert (scheduled.root / "reports" / "metrics.json").exists()


def test_planned_runs_of_a_clock_that_is_no_more_are_forgotten(scheduled, client):
    nightly = client.read_deployment_by_name(NIGHTLY)
    before = {run.id for run in cron.planned(client, nightly)}
    most = Schedule(cron="0-57 * * * *", timezone="Asia/Kathmandu", alarms=None)
    cron.forget(client, nightly, most)
    # 05:45 ahead of UTC, minutes 58 and 59 there are 13 and 14.
    kept = [run for run in cron.planned(client, nightly) if run.id in before]
    assert len(kept) > 30
    assert not {run.next_scheduled_start_time.minute for run in kept} & {13, 14}


def by_the_clock(client):
    """How the runs ended that the schedule made."""
    states = [run.state for run in runs(client, NIGHTLY) if run.auto_scheduled]
    return [state.name for state in states if state.is_final()]


def test_a_moved_checkout_says_to_deploy_it_again(scheduled, client):
    wait_until(lambda: not DvcProject(scheduled.root).running)
    old, new = scheduled.root, scheduled.root.with_name("moved")
    old.rename(new)
    scheduled.root = new
    run = trigger(client)
    wait_until(lambda: state(client, run) == "Failed", seconds=60)
    sentence = (
        f"There is no checkout in {old} any more; if it was moved, deploy it again "
        "with `make schedule` in its new place."
    )
    ended = client.read_flow_run(run).state
    assert (ended.name, ended.message) == ("Failed", sentence)
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
    wait_until(lambda: sentence in [log.message for log in client.read_logs(chosen)])

    CustomWebhookNotificationBlock(name="ops", url="http://127.0.0.1:9").save("ops")
    # From here on, no run of the clock comes between.
    scheduled.edit(cron="0 5 * * *", alarms="custom-webhook/ops")
    wait_until(lambda: not DvcProject(new).running, seconds=60)
    status, said = scheduled.schedule()
    assert (status, len(said)) == (0, 4), said
    assert said[0] == f"The deployments pointed to {old}; they point to {new} now."
    assert said[1].endswith("rollback; alarms go to custom-webhook/ops.")
    assert said[2].endswith(" at 05:00 Asia/Kathmandu.")


def test_triggers_do_not_overlap_and_a_cancelled_run_leaves_nothing(scheduled, client):
    first, child = held(scheduled, client)
    begun = len(scheduled.starts())
    second = trigger(client, targets=["download"], force=True)
    wait_until(lambda: state(client, second) == "AwaitingConcurrencySlot", seconds=60)
    assert len(scheduled.starts()) == begun
    client.set_flow_run_state(first, Cancelling())
    wait_until(lambda: state(client, first) == "Cancelled")
    wait_until(lambda: not alive(child))
    # Slot and checkout are free: the second one gets to work.
    wait_until(lambda: len(scheduled.starts()) == begun + 1, seconds=60)
    scheduled.hold.unlink()
    wait_until(lambda: state(client, second) == "Completed", seconds=60)


def test_a_run_that_lost_its_worker_is_settled_and_its_slot_is_free(scheduled, client):
    run, child = held(scheduled, client)
    os.kill(scheduled.noted("worker"), signal.SIGTERM)
    wait_until(lambda: not alive(child))
    scheduled.hold.unlink()
    assert state(client, run) == "Running"
    status, said = scheduled.schedule()
    assert (status, len(said)) == (0, 3), said
    settled = client.read_flow_run(run).state
    assert (settled.name, settled.message) == ("Crashed", LOST)
    on_demand = client.read_deployment_by_name(ON_DEMAND)
    assert on_demand.global_concurrency_limit.active_slots == 0


def test_make_unschedule_undoes_it_and_cancels_what_runs(scheduled, client):
    assert len(client.read_automations_by_name(notifications.NAME)) == 1
    run, child = held(scheduled, client)
    with pytest.MonkeyPatch.context() as patch:
        # To see what is left of it, the server is not the command's to stop.
        patch.setitem(scheduled.env, "PREFECT_API_URL", scheduled.url)
        noted = scheduled.root / ".schedule" / "server.json"
        noted.rename(noted.with_suffix(".away"))
        status, said = scheduled.schedule("--stop")
        noted.with_suffix(".away").rename(noted)
    assert status == 0, said
    name = client.read_flow_run(run).name
    assert said == [
        f"Run {name} was under way; it is Cancelled now.",
        STOPPED,
        f"The server at {scheduled.url} runs on: `make schedule` had not started it.",
    ]
    assert not alive(child)
    assert client.read_deployments() == []
    assert client.read_automations_by_name(notifications.NAME) == []
    kept = [run.state.name for run in client.read_flow_runs()]
    assert {"Completed", "Cancelled", "Crashed", "Failed"} == set(kept)
    stopped_too = "The Prefect server was stopped too."
    assert scheduled.schedule("--stop") == (0, [NOTHING, stopped_too])
    assert scheduled.schedule("--stop") == (0, [NOTHING])


def held(scheduled, client):
    """A run whose first stage has begun and waits, and the process of that stage."""
    before = len(scheduled.starts())
    scheduled.hold.touch()
    run = trigger(client, targets=["download"], force=True)
    wait_until(lambda: len(scheduled.starts()) > before, seconds=60)
    return run, scheduled.starts()[-1]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("cron", "0 25 * * *", "cron has five fields, minute, hour, day, month and "),
        ("timezone", "Mars/Olympus", "a time zone has an IANA name, such as 'Europe/"),
        ("alarms", "slack", "a block is named TYPE/NAME, such as 'slack-webhook/ops'."),
        (
            "alarms",
            "slack/",
            "a block is named TYPE/NAME, such as 'slack-webhook/ops'.",
        ),
    ],
)
def test_a_schedule_that_cannot_be_used_is_one_sentence(
    tmp_path, params, key, value, reason
):
    params["schedule"][key] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    sentence = f"{path}: `schedule.{key}` is {value!r}, but {reason}"
    with pytest.raises(BadInput, match=f"^{re.escape(sentence)}"):
        load("schedule", Schedule, path)


def test_a_server_that_does_not_answer_is_one_sentence():
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(
            Unready, match="The Prefect server at http://127.0.0.1:9/api does"
        ),
    ):
        services.start_server("http://127.0.0.1:9/api")


def test_a_port_that_is_someone_elses_is_one_sentence(monkeypatch):
    monkeypatch.setattr(services, "BUSY_SECONDS", 0.1)
    with serving({}) as web:
        port = int(web.url.rpartition(":")[2])
        with (
            temporary_settings({PREFECT_SERVER_API_PORT: port}),
            pytest.raises(
                Unready, match=f"Port {port} is taken by a program that is no"
            ),
        ):
            services.start_server(f"{web.url}/api")


def test_prefect_yaml_has_the_deployments_that_are_known():
    named = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert [one["name"] for one in named] == [
        name.partition("/")[2] for name in deployments.NAMES
    ]


def test_a_cron_that_begins_with_a_star_can_be_typed_over_the_old_one(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("0 3 * * *", "*/2 * * * *"))
    assert load("schedule", Schedule, path).cron == "*/2 * * * *"
