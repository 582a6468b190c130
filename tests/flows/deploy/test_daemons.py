"""Programs in the background: what is said of them is true, whatever happened."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from servers import alive, wait_until

from flows.deploy.daemons import Background, Unready

# It says its number, then works until it is told to stop.
WORK = ["sh", "-c", "echo $$; exec sleep 600"]
# It does not listen.
STUBBORN = ["sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.05; done"]


@pytest.fixture
def worker(tmp_path):
    worker = Background(tmp_path, "worker")
    yield worker
    worker.stop(1)


def start(worker, command):
    """Start it as a command does that ends before it."""
    program = (
        "import os; from pathlib import Path;"
        "from flows.deploy.daemons import Background;"
        f"Background(Path({str(worker.root)!r}), {worker.name!r})"
        f".start({command!r}, os.environ)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def number(worker):
    wait_until(lambda: worker.log.read_text().strip())
    return int(worker.log.read_text())


def test_a_program_runs_until_it_is_stopped(worker):
    assert not worker.running()
    start(worker, WORK)
    pid = number(worker)
    assert worker.running()
    assert os.getsid(pid) == pid, "a closed terminal would end it"
    assert worker.stop(10) is True
    assert not worker.running()
    assert not alive(pid)
    assert worker.stop(10) is False


def test_a_second_one_is_refused(worker):
    start(worker, WORK)
    with pytest.raises(Unready, match="^A worker runs here already.$"):
        worker.start(WORK, os.environ)
    assert alive(number(worker))


def test_what_was_killed_does_not_run_though_its_number_is_someone_elses(worker):
    start(worker, WORK)
    os.kill(number(worker), signal.SIGKILL)
    wait_until(lambda: not worker.running())
    noted = worker.log.with_suffix(".json")
    noted.write_text(
        json.dumps({"pid": os.getpid(), "folder": "f", "environment": "e"})
    )
    assert not worker.running()
    assert worker.stop(1) is False


def test_one_that_does_not_listen_is_killed(worker):
    start(worker, STUBBORN)
    pid = number(worker)
    assert worker.stop(0.2) is True
    assert not alive(pid)


def test_one_that_was_started_before_the_checkout_was_moved_is_outdated(tmp_path):
    (tmp_path / "old").mkdir()
    old = Background(tmp_path / "old", "worker")
    start(old, WORK)
    number(old)
    assert not old.outdated()
    (tmp_path / "old").rename(tmp_path / "new")
    new = Background(tmp_path / "new", "worker")
    assert new.outdated()
    assert new.stop(10) is True
    assert not new.outdated()


def test_one_of_an_environment_that_was_made_anew_is_outdated(worker, monkeypatch):
    start(worker, WORK)
    assert not worker.outdated()
    monkeypatch.setattr(sys, "prefix", str(worker.root))
    assert worker.outdated()


def test_one_that_ends_at_once_is_quoted(worker):
    start(worker, ["sh", "-c", "echo begin; echo No such pool.; exit 1"])
    sentence = f"The worker ended at once: No such pool. (See {worker.log}.)"
    with pytest.raises(Unready, match=f"^{re.escape(sentence)}$"):
        worker.wait_until(lambda: False, 10)


def test_one_that_does_not_get_ready_is_quoted(worker):
    start(worker, WORK)
    pid = number(worker)
    with pytest.raises(Unready, match=f"The worker was not ready after 0.1 s: {pid}"):
        worker.wait_until(lambda: False, 0.1)


def test_the_log_before_is_kept_and_the_one_before_that_is_not(worker):
    for said in ("first", "second", "third"):
        start(worker, ["echo", said])
        wait_until(lambda: not worker.running())
    assert worker.log.read_text() == "third\n"
    assert worker.log.with_name("worker.log.1").read_text() == "second\n"
    assert sorted(path.name for path in worker.log.parent.iterdir()) == [
        "worker.json",
        "worker.log",
        "worker.log.1",
    ]
