"""A run pushes its results to DVC's default remote, and continues if it can't."""

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
from prefect.client.schemas.filters import TaskRunFilter
from prefect.logging import disable_run_logger
from prefect.states import Completed, Failed
from servers import answers, wait_until
from small_project import Project
from test_remote import cached, default_remote, files

from flows.results import push
from flows.results.push import Pusher
from flows.results.remote import RemoteError, fetch_object, push_objects
from prefect_dvc import DvcProject

pytestmark = [
    # DVC calls pygtrie in this way for the outputs of a stage.
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
]

DONE = Completed(message="Every stage is up to date.")


@pytest.fixture
def store(project, tmp_path):
    """A folder that is the default remote of the checkout and doesn't exist yet."""
    default_remote(project, tmp_path / "store")
    return tmp_path / "store"


def pushed(project, *, targets=(), champions=tuple):
    """Push once, outside of any flow; return the state of the task."""
    pusher = Pusher(project.root, "auto", [*targets], champions)
    with disable_run_logger(), DvcProject(project.root).commands("push") as commands:
        return pusher.push(commands)


def run(project, when):
    """Run the stages and push, as the pipeline does; return the flow's state."""

    @flow
    def everything():
        pusher = Pusher(project.root, when, [])
        with DvcProject(project.root).open() as stages:
            stages.submit_all()
            stages.wait()
            return pusher.finish(stages, DONE)

    return everything(return_state=True)


def push_tasks(state):
    """Return the final state of each task `push`, and how often it was tried."""
    chosen = {
        "flow_run_id": {"any_": [state.state_details.flow_run_id]},
        "name": {"any_": ["push"]},
    }
    with get_client(sync_client=True) as client:
        found = client.read_task_runs(
            task_run_filter=TaskRunFilter.model_validate(chosen)
        )
    return [(task.state_name, task.run_count) for task in found]


def clone(project, name="clone"):
    """Clone what is committed into another checkout."""
    root = project.root.with_name(name)
    project.git("clone", "--quiet", ".", str(root))
    return Project(root, project.notes)


def dvc(project, *arguments):
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=project.root, check=True)


def test_run_pushes_its_results(built, store, prefect_server):
    state = run(built, "auto")
    assert state.message.startswith(
        "Every stage is up to date. push to 'store': 4 files pushed ("
    )
    assert len(files(store)) == 4


def test_failed_push_is_retried_and_leaves_the_run_completed(
    built, prefect_server, monkeypatch, caplog
):
    monkeypatch.setattr(push, "RETRY_DELAY_SECONDS", [0.0, 0.0])
    # A server doesn't repeat a password, so this one is a part of a path.
    default_remote(built, built.root / "params.yaml" / "open-sesame")
    monkeypatch.setenv("STORE_PASSWORD", "open-sesame")
    state = run(built, "auto")
    assert state.name == "Completed"
    assert "The results were not pushed to 'store'" in state.message
    assert "Not a directory" in state.message
    assert "The results were not pushed to 'store'" in caplog.text
    assert "/params.yaml/***/files/md5" in caplog.text
    assert "sesame" not in state.message + caplog.text
    wait_until(lambda: push_tasks(state) == [("Unavailable", 3)])
    assert built.status() == {}


def test_run_that_must_push_fails_if_it_cannot(
    built, store, prefect_server, monkeypatch
):
    monkeypatch.setattr(push, "RETRY_DELAY_SECONDS", [])
    store.write_text("not a folder")
    state = run(built, "always")
    assert state.name == "Failed"
    assert state.message.startswith("The results were not pushed to 'store'")


@pytest.mark.parametrize("when", ["auto", "never"])
def test_nothing_is_pushed_without_a_remote_or_by_choice(project, tmp_path, when):
    if when == "never":
        default_remote(project, tmp_path / "store")
    assert Pusher(project.root, when, []).finish(None, DONE) is DONE


def test_nothing_is_pushed_if_a_stage_failed(project, store):
    failed = Failed(message="A stage failed.")
    assert Pusher(project.root, "always", []).finish(None, failed) is failed


def test_run_that_must_push_needs_a_remote(project):
    with pytest.raises(RemoteError, match="no default remote.*--push auto"):
        Pusher(project.root, "always", [])


def test_targets_are_pushed_with_what_they_need(built, store):
    state = pushed(built, targets=["each@a"])
    assert state.message.startswith("push to 'store': 2 files pushed (")


def test_configuration_error_is_not_retried(built, store):
    built.edit(".dvc/config", "remote = store", "remote = lost")
    state = pushed(built)
    assert state.name == "Failed"
    assert "config file error: remote 'lost' doesn't exist" in state.message


def test_push_with_missing_files_fails(built, store):
    cached(built, built.lock()["first"]["outs"][0]["md5"]).unlink()
    state = pushed(built)
    assert state.name == "Failed"
    assert "files are missing from DVC's cache; `dvc commit`" in state.message


def test_champions_are_pushed_too(built, store):
    old = built.lock()["first"]["outs"][0]["md5"]
    built.edit("params.yaml", "text: hello", "text: good day")
    built.repro()
    assert pushed(built, champions=lambda: [old]).is_completed()
    assert old[2:] in files(store)
    assert len(files(store)) == 5


@contextmanager
def silent_remote(project):
    """A default remote that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        default_remote(project, f"http://127.0.0.1:{server.getsockname()[1]}/mnist")
        yield server


def test_push_has_a_time_limit(built, monkeypatch):
    monkeypatch.setattr(push, "TIMEOUT_SECONDS", 1.5)
    with silent_remote(built):
        state = pushed(built)
    assert state.name == "Unavailable"
    assert "it took longer than 1.5 s." in state.message


@pytest.mark.slow
def test_push_stops_with_the_flow(built, prefect_server):
    @flow
    def stopped():
        project = DvcProject(built.root)
        with silent_remote(built) as server, project.open() as stages:
            pusher = Pusher(built.root, "auto", [])
            context = contextvars.copy_context()
            with ThreadPoolExecutor(1) as pool:
                future = pool.submit(context.run, pusher.finish, stages, DONE)
                connection, _ = server.accept()
                stages._processes.stop()
                state = future.result()
            with connection:
                while connection.recv(65536):
                    pass  # the request, then the end of the client
            return state

    assert stopped(return_state=True).message == (
        "Every stage is up to date. push was stopped with the flow."
    )


@pytest.fixture
def s3(project, monkeypatch):
    """An empty bucket on this machine that is the default remote."""
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


@pytest.mark.slow
@pytest.mark.parametrize("remote", ["store", "s3"])
def test_another_clone_pulls_what_a_run_pushed(built, remote, request):
    request.getfixturevalue(remote)
    assert pushed(built).message.startswith("push to 'store': 4 files pushed (")
    built.commit()
    other = clone(built)
    dvc(other, "pull", "--quiet")
    assert other.read("all.txt") == built.read("all.txt")
    assert other.status() == {}
    md5 = other.lock()["each@a"]["outs"][0]["md5"]
    cached(other, md5).unlink()
    assert fetch_object(other.root, md5) == b"plus hello\nplus world\n"
    push_objects(other.root, [md5])
