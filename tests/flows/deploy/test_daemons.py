"""Background programs: the lock says whether they run, whatever happened before."""

import json
import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from servers import alive, wait_until

from flows.deploy.daemons import Background, Unready, exclusive

# Prints its PID, then runs until it is stopped.
WORK = ["sh", "-c", "echo $$; exec sleep 600"]
# Ignores SIGTERM.
STUBBORN = ["sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.05; done"]


@pytest.fixture
def worker(tmp_path):
    worker = Background(tmp_path, "worker")
    yield worker
    worker.stop(1)


def start(worker, command):
    """Start it from a command that ends first, as `make schedule` does."""
    program = (
        "import os; from pathlib import Path;"
        "from flows.deploy.daemons import Background;"
        f"Background(Path({str(worker.root)!r}), {worker.name!r})"
        f".start({command!r}, os.environ)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def pid_of(worker):
    wait_until(lambda: worker.log.read_text().strip())
    return int(worker.log.read_text())


def test_program_runs_until_it_is_stopped(worker):
    assert not worker.running()
    start(worker, WORK)
    pid = pid_of(worker)
    assert worker.running().pid == pid
    assert os.getsid(pid) == pid, "a closed terminal would end it"
    assert worker.stop(10) is True
    assert not worker.running()
    assert not alive(pid)
    assert worker.stop(10) is False


def test_commands_of_one_checkout_run_one_after_another(tmp_path):
    entered = threading.Event()

    def second():
        with exclusive(tmp_path):
            entered.set()

    thread = threading.Thread(target=second)
    with exclusive(tmp_path):
        thread.start()
        assert not entered.wait(0.3)
    assert entered.wait(60)
    thread.join()


def test_second_program_of_the_same_name_is_refused(worker):
    start(worker, WORK)
    with pytest.raises(Unready, match="^A worker runs here already.$"):
        worker.start(WORK, os.environ)
    assert alive(pid_of(worker))


def test_killed_program_does_not_run_though_another_has_its_pid(worker):
    start(worker, WORK)
    os.kill(pid_of(worker), signal.SIGKILL)
    wait_until(lambda: not worker.running())
    record = {"pid": os.getpid(), "folder": "f", "environment": "e"}
    worker.log.with_suffix(".json").write_text(json.dumps(record))
    assert not worker.running()
    assert worker.stop(1) is False


def test_program_that_ignores_sigterm_is_killed(worker):
    start(worker, STUBBORN)
    pid = pid_of(worker)
    assert worker.stop(0.2) is True
    assert not alive(pid)


def test_program_is_outdated_after_the_checkout_moved(tmp_path):
    (tmp_path / "old").mkdir()
    old = Background(tmp_path / "old", "worker")
    start(old, WORK)
    assert not old.outdated()
    (tmp_path / "old").rename(tmp_path / "new")
    new = Background(tmp_path / "new", "worker")
    assert new.outdated()
    assert new.stop(10) is True
    assert not new.outdated()


def test_program_is_outdated_in_another_environment(worker, monkeypatch):
    start(worker, WORK)
    assert not worker.outdated()
    monkeypatch.setattr(sys, "prefix", str(worker.root))
    assert worker.outdated()


def test_program_that_ends_at_once_is_quoted(worker):
    start(worker, ["sh", "-c", "echo begin; echo No such pool.; exit 1"])
    sentence = f"The worker ended at once: No such pool. (See {worker.log}.)"
    with pytest.raises(Unready, match=f"^{re.escape(sentence)}$"):
        worker.wait_until(lambda: False, 10)


def test_program_that_is_not_ready_in_time_is_quoted(worker):
    start(worker, WORK)
    pid = pid_of(worker)
    with pytest.raises(Unready, match=f"The worker was not ready after 0.1 s: {pid}"):
        worker.wait_until(lambda: False, 0.1)


def test_previous_log_is_kept_and_older_ones_are_not(worker):
    for line in ("first", "second", "third"):
        start(worker, ["echo", line])
        wait_until(lambda: not worker.running())
    assert worker.log.read_text() == "third\n"
    assert worker.log.with_name("worker.log.1").read_text() == "second\n"
    assert sorted(path.name for path in worker.log.parent.iterdir()) == [
        "worker.json",
        "worker.log",
        "worker.log.1",
    ]
