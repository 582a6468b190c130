"""Commands run to their end, or are ended; nothing of them is left over."""

import contextvars
import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from conftest import alive, wait_until
from hypothesis import given
from hypothesis import strategies as st

from prefect_dvc.processes import (
    GRACE_SECONDS,
    CommandFailed,
    Processes,
    Stopped,
    TimedOut,
    _Lines,
)

ROOT = Path(__file__).parent.parent


@pytest.fixture
def children():
    with Processes(2) as children:
        yield children


def sh(children, script, timeout=10):
    """Run a shell script; return the lines that it printed."""
    lines = []
    children.run(["sh", "-c", script], {}, lines.append, timeout)
    return lines


def gone(path):
    """Whether the process whose number stands in a file has ended."""
    return not alive(int(path.read_text()))


def test_a_command_that_succeeds_hands_on_what_it_printed(children):
    assert sh(children, "echo out; echo err >&2; printf end") == ["out", "err", "end"]


def test_a_command_gets_its_folder_and_its_environment(children, tmp_path):
    lines = []
    process = {"cwd": tmp_path, "env": {"WORD": "here"}}
    children.run(["/bin/sh", "-c", 'echo "$WORD"; pwd -P'], process, lines.append)
    assert lines == ["here", str(tmp_path.resolve())]


def test_a_command_has_no_input_to_wait_for(children):
    assert sh(children, "cat; echo end") == ["end"]


def test_a_command_that_fails_tells_its_status_and_its_last_line(children):
    with pytest.raises(CommandFailed) as failure:
        sh(children, "echo first; echo the reason >&2; echo; exit 75")
    assert (failure.value.status, failure.value.last_line) == (75, "the reason")


def test_a_command_that_a_signal_ends_tells_which(children):
    with pytest.raises(CommandFailed) as failure:
        sh(children, "kill -9 $$")
    assert (failure.value.status, failure.value.last_line) == (-signal.SIGKILL, "")


def test_a_command_that_cannot_be_found_says_so(children):
    with pytest.raises(CommandFailed) as failure:
        children.run(["no-such-command"], {}, print)
    assert failure.value.status == 127
    assert "no-such-command" in failure.value.last_line


def test_lines_come_while_the_command_runs(children, tmp_path):
    # The command ends when its line has arrived, not before.
    arrived = tmp_path / "arrived"

    def on_line(_):
        arrived.touch()

    script = f"echo line; while [ ! -e {arrived} ]; do sleep 0.01; done"
    children.run(["sh", "-c", script], {}, on_line, timeout=10)


def test_lines_end_with_newlines_and_carriage_returns_and_empty_ones_are_left_out(
    children,
):
    printed = r"printf '  one  \r 10%%|\r 20%%|\r\ntwo\n\n   \nthree'"
    assert sh(children, printed) == ["  one", " 10%|", " 20%|", "two", "three"]


@given(st.text(st.sampled_from("aé€😀 \r\n")))
def test_lines_are_the_same_if_every_byte_comes_alone(text):
    lines, (output, end) = [], os.pipe()
    reader = _Lines(SimpleNamespace(stdout=os.fdopen(output, "rb")), lines.append)
    for byte in text.encode():
        os.write(end, bytes([byte]))
        while fcntl.ioctl(output, termios.FIONREAD, bytes(4)) != bytes(4):
            pass
    os.close(end)
    reader.join()
    printed = [line.rstrip() for line in text.replace("\r", "\n").split("\n")]
    assert lines == [line for line in printed if line]


def test_bytes_that_are_no_text_do_not_stop_a_command(children):
    assert sh(children, r"printf 'a\377b\n'") == ["a\ufffdb"]


def test_what_a_listener_is_told_belongs_to_the_callers_context(children):
    variable = contextvars.ContextVar("variable")
    variable.set("the caller's")
    seen = []
    children.run(["echo", "line"], {}, lambda _: seen.append(variable.get()))
    assert seen == ["the caller's"]


def test_a_listener_that_fails_fails_the_command_and_does_not_block_it(children):
    def on_line(_):
        raise ConnectionError("no server")

    more_than_a_pipe_holds = [sys.executable, "-c", "print('line\\n' * 100_000)"]
    with pytest.raises(ConnectionError, match="no server"):
        children.run(more_than_a_pipe_holds, {}, on_line, timeout=10)


def test_a_command_that_takes_too_long_is_ended(children, tmp_path):
    pid = tmp_path / "pid"
    with pytest.raises(TimedOut, match="^took longer than 0.3 s$"):
        sh(children, f"echo $$ > {pid}; exec sleep 60", timeout=0.3)
    assert gone(pid)


def test_the_whole_group_of_a_command_is_ended_even_if_it_does_not_want_to(
    children, tmp_path
):
    leader, member = tmp_path / "leader", tmp_path / "member"
    script = f"""
        trap '' TERM
        sh -c 'echo $$ > {member}; sleep 10' &
        echo $$ > {leader}
        sleep 10
    """
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(sh, children, script)
        wait_until(lambda: leader.exists() and member.exists() and member.read_text())
        started = time.monotonic()
        children.stop()
        with pytest.raises(Stopped):
            running.result()
    assert time.monotonic() - started < GRACE_SECONDS + 1
    assert gone(leader)
    wait_until(lambda: gone(member), seconds=1)


def test_what_a_command_leaves_in_the_background_ends_with_it(children, tmp_path):
    pid = tmp_path / "pid"
    script = f"""
        sh -c 'echo begun; echo $$ > {pid}; exec sleep 60' &
        while [ ! -s {pid} ]; do sleep 0.01; done
        echo end
    """
    assert sh(children, script) == ["begun", "end"]
    wait_until(lambda: gone(pid), seconds=1)


@pytest.mark.parametrize("above", ["exec", "true; "], ids=["alone", "under a shell"])
def test_a_command_may_end_properly_when_it_is_stopped(children, tmp_path, above):
    note, ready, program = (tmp_path / name for name in ("note", "ready", "program"))
    program.write_text(f"""
        trap 'sleep 0.3; echo ended > {note}; exit 0' TERM
        touch {ready}
        while :; do sleep 0.01; done
    """)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(sh, children, f"{above} sh {program}; true")
        wait_until(ready.exists)
        children.stop()
        with pytest.raises(Stopped):
            running.result()
    assert note.read_text() == "ended\n"


def test_nothing_starts_any_more_once_stopped(children, tmp_path):
    children.stop()
    with pytest.raises(Stopped):
        sh(children, f"touch {tmp_path}/started")
    with pytest.raises(Stopped):
        children.pause(5)
    assert list(tmp_path.iterdir()) == []


def test_no_more_commands_run_at_a_time_than_there_are_cores(tmp_path):
    log = tmp_path / "log"

    def work():
        with children.core():
            sh(children, f"echo 1 >> {log}; sleep 0.05; echo -1 >> {log}")

    with Processes(2) as children, ThreadPoolExecutor(8) as pool:
        for running in [pool.submit(work) for _ in range(8)]:
            running.result()
    steps = [int(step) for step in log.read_text().split()]
    running = [sum(steps[: i + 1]) for i in range(len(steps))]
    assert (max(running), running[-1], len(steps)) == (2, 0, 16)


def test_a_core_is_free_again_after_a_failure():
    with Processes(1) as children:
        for _ in range(2):
            with pytest.raises(CommandFailed), children.core():
                sh(children, "exit 1")


def test_who_waits_for_a_core_can_be_stopped():
    with ThreadPoolExecutor(1) as pool, Processes(1) as children, children.core():

        def wait():
            with children.core():
                pass

        waiting = pool.submit(wait)
        children.stop()
        with pytest.raises(Stopped):
            waiting.result(5)


PARENT = """
import sys, threading
from prefect_dvc.processes import Processes
with Processes(2) as children:
    script = "trap '' TERM; echo $$ > pid; sleep 10"
    children.run(["sh", "-c", script], {}, print)
"""


def test_children_die_with_their_parent_by_kill_9(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    pid = tmp_path / "pid"
    wait_until(lambda: pid.exists() and pid.read_text())
    (watchdog,) = [
        p
        for p in psutil.Process(parent.pid).children()
        if p.pid != int(pid.read_text())
    ]
    os.killpg(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_until(lambda: gone(pid), seconds=2)
    watchdog.wait(2)


KILLED_EARLY = """
import os, signal
from prefect_dvc.processes import Processes
with Processes(2) as children:
    children._tell_watchdog = lambda line: os.kill(os.getpid(), signal.SIGKILL)
    children.run(["touch", "started"], {}, print)
"""


def test_no_command_starts_before_the_watchdog_knows_of_it(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.run(
        [sys.executable, "-c", KILLED_EARLY], cwd=tmp_path, env=environment, check=False
    )
    assert parent.returncode == -signal.SIGKILL
    time.sleep(0.2)
    assert list(tmp_path.iterdir()) == []


def test_no_watchdog_is_left_and_it_kills_nobody_whose_command_ended():
    before = psutil.Process().children()
    with Processes(2) as children:
        sh(children, "true")
        assert len(psutil.Process().children()) == len(before) + 1
    assert psutil.Process().children() == before
