"""Commands run to their end or are ended, and leave no process behind."""

import contextvars
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import psutil
import pytest
from conftest import alive, wait_until

from prefect_dvc.cores import Cores
from prefect_dvc.errors import CommandFailed, Stopped, TimedOut
from prefect_dvc.processes import Processes

SOURCE = Path(__file__).parent.parent / "src"


@pytest.fixture
def children():
    with Processes() as children:
        yield children


def sh(children, script, timeout=60):
    """Run a shell script; return the lines that it printed."""
    lines = []
    children.run(["sh", "-c", script], {}, lines.append, timeout)
    return lines


def gone(path):
    """Return whether the process whose id is in a file has ended."""
    return not alive(int(path.read_text()))


def test_printed_lines_reach_the_listener(children):
    assert sh(children, "echo out; echo err >&2; printf end") == ["out", "err", "end"]


def test_a_command_has_its_folder_and_environment(children, tmp_path):
    lines = []
    process = {"cwd": tmp_path, "env": {"WORD": "here"}}
    children.run(["/bin/sh", "-c", 'echo "$WORD"; pwd -P'], process, lines.append)
    assert lines == ["here", str(tmp_path.resolve())]


def test_a_command_has_an_empty_standard_input(children):
    assert sh(children, "cat; echo end") == ["end"]


def test_a_failure_has_the_status_and_the_last_line(children):
    with pytest.raises(CommandFailed) as failure:
        sh(children, "echo first; echo the reason >&2; echo; exit 75")
    assert (failure.value.status, failure.value.reason) == (75, "the reason")


def test_a_failure_names_the_signal_that_ended_the_command(children):
    with pytest.raises(CommandFailed) as failure:
        sh(children, "kill -9 $$")
    assert failure.value.status == -signal.SIGKILL


def test_a_missing_command_is_named(children):
    with pytest.raises(CommandFailed) as failure:
        children.run(["no-such-command"], {}, print)
    assert failure.value.status == 127
    assert "no-such-command" in failure.value.reason


def test_lines_arrive_while_the_command_runs(children, tmp_path):
    # The command ends when its line has arrived, not before.
    arrived = tmp_path / "arrived"

    def on_line(_):
        arrived.touch()

    script = f"echo line; while [ ! -e {arrived} ]; do sleep 0.01; done"
    children.run(["sh", "-c", script], {}, on_line, timeout=60)


def test_lines_end_at_newlines_and_carriage_returns_and_empty_ones_are_dropped(
    children,
):
    printed = r"printf '  one  \r 10%%|\r 20%%|\r\ntwo\n\n   \nthree'"
    assert sh(children, printed) == ["  one", " 10%|", " 20%|", "two", "three"]


def test_lines_are_the_same_if_every_byte_is_printed_alone(children):
    text = "".join(Random(0).choices("aé€😀 \r\n", k=300))
    program = "import os, sys; [os.write(1, bytes([b])) for b in eval(sys.argv[1])]"
    lines = []
    command = [sys.executable, "-S", "-c", program, repr(text.encode())]
    children.run(command, {}, lines.append)
    printed = [line.rstrip() for line in text.replace("\r", "\n").split("\n")]
    assert lines == [line for line in printed if line]


def test_invalid_utf_8_does_not_stop_a_command(children):
    assert sh(children, r"printf 'a\377b\n'") == ["a\ufffdb"]


def test_a_listener_is_called_in_the_callers_context(children):
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
        children.run(more_than_a_pipe_holds, {}, on_line, timeout=60)


def test_a_command_that_takes_too_long_is_ended(children, tmp_path):
    pid = tmp_path / "pid"
    with pytest.raises(TimedOut, match="^took longer than 0.3 s$"):
        sh(children, f"echo $$ > {pid}; exec sleep 60", timeout=0.3)
    assert gone(pid)


def test_the_whole_group_of_a_command_is_ended_even_if_it_ignores_sigterm(
    children, tmp_path
):
    leader, member = tmp_path / "leader", tmp_path / "member"
    script = f"""
        trap '' TERM
        sh -c 'echo $$ > {member}; sleep 60' &
        echo $$ > {leader}
        sleep 60
    """
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(sh, children, script)
        wait_until(lambda: leader.exists() and member.exists() and member.read_text())
        started = time.monotonic()
        children.stop()
        with pytest.raises(Stopped):
            running.result()
    assert time.monotonic() - started < 30
    assert gone(leader)
    wait_until(lambda: gone(member))


def test_background_processes_of_a_command_end_with_it(children, tmp_path):
    pid = tmp_path / "pid"
    script = f"""
        sh -c 'echo begun; echo $$ > {pid}; exec sleep 60' &
        while [ ! -s {pid} ]; do sleep 0.01; done
        echo end
    """
    assert sh(children, script) == ["begun", "end"]
    wait_until(lambda: gone(pid))


@pytest.mark.parametrize("above", ["exec", "true; "], ids=["alone", "under a shell"])
def test_a_stopped_command_has_time_to_clean_up(children, tmp_path, above):
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


def test_a_stopped_run_starts_no_command(children, tmp_path):
    children.stop()
    with pytest.raises(Stopped):
        sh(children, f"touch {tmp_path}/started")
    with pytest.raises(Stopped):
        children.pause(5)
    assert list(tmp_path.iterdir()) == []


def test_no_more_commands_run_at_a_time_than_there_are_cores(children, tmp_path):
    log = tmp_path / "log"
    cores = Cores(2, {}, {})

    def work(name):
        with cores.held(name, pause=children.pause):
            sh(children, f"echo 1 >> {log}; sleep 0.05; echo -1 >> {log}")

    with ThreadPoolExecutor(8) as pool:
        for running in [pool.submit(work, str(i)) for i in range(8)]:
            running.result()
    steps = [int(step) for step in log.read_text().split()]
    running = [sum(steps[: i + 1]) for i in range(len(steps))]
    assert (max(running), running[-1], len(steps)) == (2, 0, 16)


def test_a_core_is_free_again_after_a_failure(children):
    cores = Cores(1, {}, {})
    for _ in range(2):
        with pytest.raises(CommandFailed), cores.held("a", pause=children.pause):
            sh(children, "exit 1")


def test_a_wait_for_a_core_can_be_stopped(children):
    cores = Cores(1, {}, {})

    def wait():
        with cores.held("b", pause=children.pause):
            pass

    with ThreadPoolExecutor(1) as pool, cores.held("a", pause=children.pause):
        waiting = pool.submit(wait)
        children.stop()
        with pytest.raises(Stopped):
            waiting.result(60)


PARENT = """
import sys, threading
from prefect_dvc.processes import Processes
with Processes() as children:
    script = "trap '' TERM; echo $$ > pid; sleep 60"
    children.run(["sh", "-c", script], {}, print)
"""


def test_commands_end_if_the_program_is_killed(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
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
    wait_until(lambda: gone(pid))
    watchdog.wait(30)


KILLED_EARLY = """
import os, signal
from prefect_dvc.processes import Processes
with Processes() as children:
    children._send_to_watchdog = lambda line: os.kill(os.getpid(), signal.SIGKILL)
    children.run(["touch", "started"], {}, print)
"""


def test_a_command_starts_only_after_the_watchdog_knows_it(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    parent = subprocess.run(
        [sys.executable, "-c", KILLED_EARLY], cwd=tmp_path, env=environment, check=False
    )
    assert parent.returncode == -signal.SIGKILL
    time.sleep(0.2)
    assert list(tmp_path.iterdir()) == []


def test_the_watchdog_ends_with_the_run():
    before = psutil.Process().children()
    with Processes() as children:
        sh(children, "true")
        assert len(psutil.Process().children()) == len(before) + 1
    assert psutil.Process().children() == before
