"""Alarms: one message for each run that went wrong, none for the others."""

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
    """A web server that records the messages it receives, in order."""

    def __init__(self) -> None:
        self.messages: list[dict[str, str]] = []
        ops = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                ops.messages.append(
                    json.loads(self.rfile.read(size))
                    | {"token": self.headers["X-Token"]}
                )
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def subjects(self) -> list[str]:
        return [message["subject"] for message in self.messages]


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
        notifications.send_to(client, None)


@pytest.fixture
def block(client, ops):
    """A webhook saved in Prefect with its secret."""
    CustomWebhookNotificationBlock(
        name="ops",
        url=ops.url,
        json_data={"subject": "{{subject}}", "body": "{{body}}"},
        headers={"X-Token": "{{token}}"},
        secrets={"token": "hush"},
    ).save("ops", overwrite=True)
    return notifications.notification_block(client, "custom-webhook/ops")


def pipeline(name):
    return flow(name=name)(lambda: None)


def run(client, name, *states):
    """Create a run that goes through `states`; return its ID."""
    made = client.create_flow_run(pipeline("mnist-sgd"), name=name, state=states[0])
    for state in states[1:]:
        client.set_flow_run_state(made.id, state, force=True)
    return made.id


def test_each_run_that_went_wrong_is_reported_once(client, block, ops, prefect_server):
    notifications.send_to(client, block)
    notifications.send_to(client, block)
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

    wait_until(lambda: len(ops.messages) >= 5)
    assert sorted(ops.subjects()) == [
        "mnist-sgd: run bad-dog ended as Failed",
        "mnist-sgd: run hit-elk ended as Crashed",
        "mnist-sgd: run long-eel ended as TimedOut",
        "mnist-sgd: run poor-ant ended as Refused",
        "mnist-sgd: run slow-owl has not started",
    ]
    bodies = {
        message["subject"].split()[2]: message["body"] for message in ops.messages
    }
    page = prefect_server["PREFECT_API_URL"].replace("/api", "/runs/flow-run/")
    assert bodies == {
        "bad-dog": "Run bad-dog of mnist-sgd failed.\n"
        f"Message: 1/11 states failed.\nPage: {page}{bad}",
        "hit-elk": "Run hit-elk of mnist-sgd crashed: its process ended before the run "
        f"did.\nMessage: Killed by signal 9.\nPage: {page}{hit}",
        "long-eel": "Run long-eel of mnist-sgd exceeded its time limit and was "
        f"stopped.\nPage: {page}{long}",
        "poor-ant": "Run poor-ant of mnist-sgd was refused: the new model did not pass "
        "the gate, and the champion stays in use.\n"
        f"Message: Its accuracy is .90, below .91.\nPage: {page}{worse}",
        "slow-owl": "Run slow-owl of mnist-sgd should have started at "
        f"{late:%Y-%m-%d %H:%M} UTC and has not: either other runs are under way, or "
        f"no worker is running; `make schedule` starts one.\nPage: {page}{slow}",
    }
    assert {message["token"] for message in ops.messages} == {"hush"}
    automations = client.read_automations_by_name(notifications.NAME)
    assert "hush" not in str(automations)


def test_nothing_is_sent_without_a_block(client, block, ops):
    notifications.send_to(client, block)
    notifications.send_to(client, notifications.notification_block(client, None))
    assert client.read_automations_by_name(notifications.NAME) == []
    run(client, "first", Running(), Failed())
    # The server handles the first run before the second.
    notifications.send_to(client, block)
    run(client, "second", Running(), Failed())
    wait_until(lambda: ops.messages)
    assert ops.subjects() == ["mnist-sgd: run second ended as Failed"]


@pytest.mark.parametrize("name", ["slack-webhook/missing", "carrier-pigeon/ops"])
def test_missing_block_is_one_sentence(client, name):
    with pytest.raises(Unready, match=f"no block '{name}'.*http://.*/blocks/catalog"):
        notifications.notification_block(client, name)


def test_block_that_cannot_notify_is_one_sentence(client):
    Secret(value="hush").save("ops", overwrite=True)
    with pytest.raises(Unready, match="'secret/ops', .* can't send") as error:
        notifications.notification_block(client, "secret/ops")
    assert "hush" not in str(error.value)
