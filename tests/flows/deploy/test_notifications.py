"""Alarms: one message of each run that went wrong, none of the others."""

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.states import Completed, Crashed, Failed, Running, Scheduled, State
from servers import wait_until

from flows.deploy import notifications
from flows.deploy.daemons import Unready


class Ops:
    """Who is on duty: a web server that keeps what it was told, in order."""

    def __init__(self) -> None:
        self.told: list[dict[str, str]] = []
        ops = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                ops.told.append(
                    json.loads(self.rfile.read(size))
                    | {"token": self.headers["X-Token"]}
                )
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def said(self) -> list[str]:
        return [message["subject"] for message in self.told]


@pytest.fixture
def ops():
    ops = Ops()
    thread = threading.Thread(target=ops.server.serve_forever, args=(0.01,))
    thread.start()
    yield ops
    ops.server.shutdown()
    ops.server.server_close()
    thread.join()


@pytest.fixture
def client(prefect_server):
    with get_client(sync_client=True) as client:
        yield client
        notifications.put(client, None)


@pytest.fixture
def block(client, ops):
    """A webhook of the operator's own, saved in Prefect with its secret."""
    CustomWebhookNotificationBlock(
        name="ops",
        url=ops.url,
        json_data={"subject": "{{subject}}", "body": "{{body}}"},
        headers={"X-Token": "{{token}}"},
        secrets={"token": "hush"},
    ).save("ops", overwrite=True)
    return notifications.block(client, "custom-webhook/ops")


def pipeline(name):
    return flow(name=name)(lambda: None)


def run(client, name, *states):
    """A run of the flow `name` that goes through `states`; its number."""
    made = client.create_flow_run(pipeline("mnist-sgd"), name=name, state=states[0])
    for state in states[1:]:
        client.set_flow_run_state(made.id, state, force=True)
    return made.id


def test_every_run_gone_wrong_is_told_once_and_no_other(
    client, block, ops, prefect_server
):
    notifications.put(client, block)
    notifications.put(client, block)
    assert len(client.read_automations_by_name(notifications.NAME)) == 1
    late = datetime.now(UTC) - timedelta(minutes=1)
    slow = run(client, "slow-owl", Scheduled(scheduled_time=late))
    run(client, "good-cat", Running(), Completed(message="All is well."))
    bad = run(client, "bad-dog", Running(), Failed(message="1/11 states failed."))
    hit = run(client, "hit-elk", Running(), Crashed(message="Killed by signal 9."))
    too_long = State(type=StateType.FAILED, name="TimedOut")
    long = run(client, "long-eel", Running(), too_long)
    refused = Completed(name="Refused", message="Its accuracy is .90, below .91.")
    worse = run(client, "poor-ant", Running(), refused)
    made = client.create_flow_run(pipeline("another"), name="not-ours", state=Running())
    client.set_flow_run_state(made.id, Failed(), force=True)

    wait_until(lambda: len(ops.told) >= 5)
    assert sorted(ops.said()) == [
        "mnist-sgd: run bad-dog ended as Failed",
        "mnist-sgd: run hit-elk ended as Crashed",
        "mnist-sgd: run long-eel ended as TimedOut",
        "mnist-sgd: run poor-ant ended as Refused",
        "mnist-sgd: run slow-owl has not started",
    ]
    bodies = {message["subject"].split()[2]: message["body"] for message in ops.told}
    page = prefect_server["PREFECT_API_URL"].replace("/api", "/runs/flow-run/")
    assert bodies == {
        "bad-dog": "Run bad-dog of mnist-sgd failed.\n"
        f"It says: 1/11 states failed.\nIts page: {page}{bad}",
        "hit-elk": "Run hit-elk of mnist-sgd crashed: its process ended before the run "
        f"did.\nIt says: Killed by signal 9.\nIts page: {page}{hit}",
        "long-eel": "Run long-eel of mnist-sgd took longer than it may, and was "
        f"stopped.\nIts page: {page}{long}",
        "poor-ant": "Run poor-ant of mnist-sgd was refused: the new model did not pass "
        "the gate, and the champion stays in use.\n"
        f"It says: Its accuracy is .90, below .91.\nIts page: {page}{worse}",
        "slow-owl": "Run slow-owl of mnist-sgd should have started at "
        f"{late:%Y-%m-%d %H:%M} UTC and has not: either other runs are under way, or "
        f"no worker is running; `make schedule` starts one.\nIts page: {page}{slow}",
    }
    assert {message["token"] for message in ops.told} == {"hush"}
    kept = client.read_automations_by_name(notifications.NAME)
    assert "hush" not in str(kept)


def test_nothing_configured_nothing_sent(client, block, ops):
    notifications.put(client, block)
    notifications.put(client, notifications.block(client, None))
    assert client.read_automations_by_name(notifications.NAME) == []
    run(client, "first", Running(), Failed())
    # What the server was told of the first run, it has dealt with before the second.
    notifications.put(client, block)
    run(client, "second", Running(), Failed())
    wait_until(lambda: ops.told)
    assert ops.said() == ["mnist-sgd: run second ended as Failed"]


@pytest.mark.parametrize("name", ["slack-webhook/nobody", "carrier-pigeon/ops"])
def test_a_block_that_is_not_there_is_one_sentence(client, name):
    sentence = (
        f"Prefect has no block '{name}', which params.yaml names in `schedule.alarms`; "
        "create it at http://.*/blocks/catalog, or write null there for none.$"
    )
    with pytest.raises(Unready, match=sentence):
        notifications.block(client, name)


def test_a_block_that_tells_nobody_is_one_sentence(client):
    Secret(value="hush").save("ops", overwrite=True)
    with pytest.raises(Unready, match="'secret/ops', .* can't notify anybody; ") as why:
        notifications.block(client, "secret/ops")
    assert "hush" not in str(why.value)
