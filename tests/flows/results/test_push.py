"""A run pushes its results to DVC's default remote, and goes on where it can't."""

import contextvars
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.logging.handlers import APILogHandler
from prefect.states import Completed, Failed
from servers import answers, wait_until
from small_project import Project
from test_remote import cached, default_remote, files

from flows.results import push
from flows.results.push import Pusher
from flows.results.remote import RemoteError, fetch_object, push_objects
from prefect_dvc import DvcProject

# DVC asks pygtrie so for the outputs of a stage.
pytestmark = [
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
    pytest.mark.usefixtures("prefect_server"),
]

DONE = "Every stage is up to date."
ALL = ["each@a", "each@b", "first", "last"]


@pytest.fixture(autouse=True)
def tries(monkeypatch):
    """One try, unless a test is about more."""
    monkeypatch.setattr(push, "RETRY_DELAY_SECONDS", [])


@pytest.fixture
def three_tries(monkeypatch):
    assert len(push.RETRY_DELAY_SECONDS) == 0
    monkeypatch.setattr(push, "RETRY_DELAY_SECONDS", [0.0, 0.0])


@pytest.fixture
def store(project, tmp_path):
    """A folder that is the default remote of the checkout; nothing is in it yet."""
    default_remote(project, tmp_path / "store")
    return tmp_path / "store"


@flow
def everything(root, when):
    """All stages, then the push, as the real flow does it."""
    try:
        pusher = Pusher(root, when, [])
        with DvcProject(root).open() as stages:
            stages.submit_all()
            ok = stages.wait().ok
            end = Completed(message=DONE) if ok else Failed(message="No.")
            return pusher.finish(stages, end)
    except RemoteError as error:
        return Failed(message=str(error))


def run(project, when="auto"):
    return everything(project.root, when, return_state=True)


def pushed(project, when="auto", champions=tuple, targets=()):
    """Push what was made before; return the state of the flow."""

    @flow
    def only_push():
        pusher = Pusher(project.root, when, list(targets), champions)
        with DvcProject(project.root).open() as stages:
            return pusher.finish(stages, Completed(message=DONE))

    return only_push(return_state=True)


def pushes(state):
    """The state of the task `push` in the UI, and how often it was tried."""
    run_id = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
        return [
            (task.state_name, task.run_count)
            for task in client.read_task_runs(flow_run_filter=chosen)
            if task.name == "push"
        ]


def logged(flow_run_id):
    """Return the log of a flow run, in order."""
    APILogHandler().flush()
    with get_client(sync_client=True) as client:
        chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
        return [log.message for log in client.read_logs(chosen)]


def warnings(state):
    APILogHandler().flush()
    chosen = LogFilter(
        flow_run_id=LogFilterFlowRunId(any_=[state.state_details.flow_run_id])
    )
    with get_client(sync_client=True) as client:
        return [log.message for log in client.read_logs(chosen) if log.level == 30]


def clone(project, name="clone"):
    """Another checkout, of what is committed."""
    root = project.root.with_name(name)
    project.git("clone", "--quiet", ".", str(root))
    return Project(root, project.notes)


def dvc(project, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=project.root, check=True
    )


def test_another_clone_pulls_what_a_run_pushed_and_runs_nothing(project, store):
    state = run(project)
    assert state.message.startswith(f"{DONE} push to 'store': 4 files pushed (")
    assert project.ran() == ALL
    project.commit()
    other = clone(project)
    dvc(other, "pull", "--quiet")
    assert other.read("all.txt") == project.read("all.txt")
    state = run(other)
    assert state.message.startswith(
        f"{DONE} push to 'store': Everything is up to date. ("
    )
    assert project.ran() == []


def test_without_a_default_remote_there_is_no_such_task(project):
    assert run(project).message == DONE


def test_who_does_not_want_to_push_does_not(project, store):
    assert run(project, "never").message == DONE
    assert not store.exists()


def test_who_always_wants_to_push_needs_a_remote_before_anything_runs(project):
    state = run(project, "always")
    assert state.name == "Failed"
    assert state.message == (
        "The run is to push its results, but DVC has no default remote; name one by "
        "`dvc remote default NAME`, or run with --push auto."
    )
    assert project.ran() == []


def test_nothing_is_pushed_if_a_stage_fails(project, store):
    project.fail("last", 1, "A test says so.")
    assert run(project).message == "No."
    assert not store.exists()


def test_only_what_was_asked_for_is_pushed(built, store):
    state = pushed(built, targets=["each@a"])
    assert state.message.startswith(f"{DONE} push to 'store': 2 files pushed (")


def test_a_run_that_cannot_push_is_completed_and_warns(built, store, three_tries):
    store.write_text("no folder")
    state = run(built)
    assert state.name == "Completed"
    assert state.message.startswith(
        "Every stage is up to date. The results were not pushed to 'store' "
        "(`dvc push` tries again): [Errno 20] Not a directory: "
    )
    assert warnings(state) == [state.message.removeprefix(f"{DONE} ")]
    wait_until(lambda: pushes(state) == [("Unavailable", 3)])
    assert built.status() == {}


def test_a_run_that_always_pushes_fails_if_it_cannot(built, store):
    store.write_text("no folder")
    state = pushed(built, "always")
    assert state.name == "Failed"
    assert state.message.startswith("The results were not pushed to 'store' (`dvc pu")


def test_what_is_wrong_in_the_configuration_is_not_tried_again(
    built, tmp_path, three_tries
):
    default_remote(built, tmp_path / "store")
    built.edit(".dvc/config", "remote = store", "remote = lost")
    state = pushed(built)
    assert state.message == (
        "Every stage is up to date. The results were not pushed to 'lost' (`dvc push` "
        "tries again): failed to push data to the cloud - config file error: remote "
        "'lost' doesn't exist"
    )
    wait_until(lambda: pushes(state) == [("Failed", 1)])


def test_a_push_that_would_leave_files_out_is_none(built, store, three_tries):
    cached(built, built.lock()["first"]["outs"][0]["md5"]).unlink()
    state = pushed(built)
    assert state.message == (
        "Every stage is up to date. The results were not pushed to 'store' (`dvc push` "
        "tries again): files are missing from DVC's cache; `dvc commit` puts them "
        "there."
    )
    wait_until(lambda: pushes(state) == [("Failed", 1)])
    dvc(built, "commit", "--quiet", "--force")
    assert "push to 'store': " in pushed(built).message
    assert len(files(store)) == 4


def test_champions_are_pushed_after_all_else_and_a_retry_may_pass(
    built, store, three_tries
):
    old = built.lock()["first"]["outs"][0]["md5"]
    built.edit("params.yaml", "text: hello", "text: good day")
    built.repro()
    champions = iter([["0" * 32], [old]])
    state = pushed(built, champions=lambda: next(champions))
    assert "push to 'store': " in state.message
    wait_until(lambda: pushes(state) == [("Completed", 2)])
    assert old[2:] in files(store)
    assert len(files(store)) == 5


def test_what_a_server_says_is_logged_without_credentials(built, monkeypatch):
    # No server repeats a password, so this one is the name of a folder that is none.
    default_remote(built, built.root / "params.yaml" / "open-sesame")
    monkeypatch.setenv("STORE_PASSWORD", "open-sesame")
    state = pushed(built)
    log = logged(state.state_details.flow_run_id)
    assert any("/params.yaml/***/files/md5" in line for line in log)
    assert not any("sesame" in line for line in [state.message, *log])


@contextmanager
def silent_remote(project):
    """A default remote that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        default_remote(project, f"http://127.0.0.1:{server.getsockname()[1]}/mnist")
        yield server


def test_a_push_is_stopped_with_the_flow(built):
    @flow
    def stopped():
        project = DvcProject(built.root)
        with silent_remote(built) as server, project.open() as stages:
            pusher = Pusher(built.root, "auto", [])
            context = contextvars.copy_context()
            with ThreadPoolExecutor(1) as pool:
                pushed = pool.submit(
                    context.run, pusher.finish, stages, Completed(message=DONE)
                )
                connection, _ = server.accept()
                stages.stop()
                state = pushed.result()
            with connection:
                while connection.recv(65536):
                    pass  # what was asked for, then the end of whoever asked
            return state

    assert stopped(return_state=True).message == (
        "Every stage is up to date. push was stopped with the flow."
    )


def test_a_push_that_takes_too_long_is_ended(built, monkeypatch):
    monkeypatch.setattr(push, "TIMEOUT_SECONDS", 1.5)
    with silent_remote(built):
        state = pushed(built, "always")
    assert state.name == "Failed"
    assert state.message == (
        "The results were not pushed to 'store' (`dvc push` tries again): it took "
        "longer than 1.5 s."
    )


@pytest.fixture
def s3(project, monkeypatch):
    """A bucket on this machine that is the default remote; nothing is in it yet."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", f"--port={port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: answers(f"{url}/moto-api/"))
        bucket = urllib.request.Request(f"{url}/bucket", method="PUT")
        urllib.request.urlopen(bucket).close()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-key-of-a-test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret-of-a-test")
        default_remote(project, f"s3://bucket/mnist\n    endpointurl = {url}")
        yield
    finally:
        server.kill()
        server.wait()


def test_s3_is_a_remote_like_any_other(built, s3, tmp_path):
    state = pushed(built, "always")
    assert state.message.startswith(f"{DONE} push to 'store': 4 files pushed (")
    built.commit()
    other = clone(built)
    dvc(other, "pull", "--quiet")
    assert other.read("all.txt") == built.read("all.txt")
    assert other.status() == {}
    md5 = other.lock()["each@a"]["outs"][0]["md5"]
    cached(other, md5).unlink()
    fetch_object(other.root, md5, tmp_path / "champion")
    assert (tmp_path / "champion").read_text() == "plus hello\nplus world\n"
    push_objects(other.root, [md5])
