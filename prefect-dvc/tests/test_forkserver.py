"""A forked command behaves like a fresh one: output, status, folder, end."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from conftest import alive, wait_until

from prefect_dvc import forkserver
from prefect_dvc.errors import CommandFailed, Stopped
from prefect_dvc.processes import Processes

PRELOAD = ("sqlite3",)


@pytest.fixture(scope="module")
def server():
    """The server, ready to fork."""
    assert forkserver.start(PRELOAD).wait(60)


@pytest.fixture
def module(tmp_path):
    """Write a module into the folder that commands run in."""

    def write(source: str) -> str:
        (tmp_path / "step.py").write_text(textwrap.dedent(source))
        return "python -m step"

    return write


def run(command: str, folder, env=None) -> tuple[int, str]:
    child = forkserver.Forked(command, str(folder), os.environ if env is None else env)
    output = b""
    with child.stdout:
        while chunk := os.read(child.stdout.fileno(), 65536):
            output += chunk
    return child.wait(), output.decode()


@pytest.mark.parametrize(
    ("command", "plain"),
    [
        ("python -m steps.train scratch_sgd", True),
        ("python -m steps.normalize", True),
        ("python -m steps.train --name=a/b,c:d@e", True),
        ("python -m steps.train $NAME", False),
        ("python -m steps.train a > b", False),
        ("python -m steps.train 'a b'", False),
        ("python -m steps.train *", False),
        ("python -m steps.train a; rm b", False),
        ("python -m steps.train\nrm b", False),
        ("python steps/train.py", False),
        ("python3 -m steps.train", False),
        ("cat a", False),
    ],
)
def test_only_commands_that_need_no_shell_are_forked(server, command, plain):
    assert forkserver.can_run(command) is plain


def test_output_and_status_are_returned(server, module, tmp_path):
    command = module("""
        import sys
        print("said")
        print("complained", file=sys.stderr)
        sys.exit(3)
    """)
    assert run(command, tmp_path) == (3, "said\ncomplained\n")


def test_an_exception_prints_a_traceback_and_ends_with_status_1(
    server, module, tmp_path
):
    status, output = run(module("1 / 0"), tmp_path)
    assert status == 1
    assert output.endswith("ZeroDivisionError: division by zero\n")


def test_a_command_has_its_arguments_folder_and_environment(server, module, tmp_path):
    command = module("""
        import os, sys
        print(sys.argv[1:], __name__, os.getcwd(), sorted(os.environ))
    """)
    status, output = run(f"{command} a --b=1", tmp_path, {"A": "1", "B": "2"})
    assert output == f"['a', '--b=1'] __main__ {tmp_path} ['A', 'B']\n"
    assert status == 0


def test_a_command_finds_the_preloaded_modules_and_no_others(server, module, tmp_path):
    command = module("""
        import sys
        print(*(name in sys.modules for name in ("sqlite3", "prefect")))
    """)
    assert run(command, tmp_path) == (0, "True False\n")


def test_a_module_of_the_project_is_imported_again_each_time(server, module, tmp_path):
    assert run(module("print('one')"), tmp_path) == (0, "one\n")
    assert run(module("print('other')"), tmp_path) == (0, "other\n")


@pytest.mark.slow
def test_no_exit_status_is_lost_between_threads(server, module, tmp_path):
    command = ["/bin/sh", "-c", module("")]
    process = {"cwd": str(tmp_path), "env": dict(os.environ)}
    failures = []

    def run_many(children: Processes) -> None:
        for _ in range(150):
            try:
                children.run(command, process, print)
            except CommandFailed as failure:
                failures.append(failure.status)

    with Processes() as children:
        threads = [threading.Thread(target=run_many, args=[children]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_several_threads_can_start_the_server_at_once():
    program = """
import sys, threading
from prefect_dvc import forkserver
start = lambda: threading.Thread(target=forkserver.start, args=[('json',)])
threads = [start() for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""


SLEEPERS = """
    import os, subprocess, time
    from pathlib import Path
    other = subprocess.Popen(["sleep", "60"])
    Path("pids").write_text(f"{os.getpid()} {other.pid}")
    time.sleep(60)
"""


def written_pids(folder) -> list[int]:
    wait_until(lambda: (folder / "pids").exists() and (folder / "pids").read_text())
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def test_a_stopped_run_ends_forked_commands_and_their_children(
    server, module, tmp_path
):
    command = ["/bin/sh", "-c", module(SLEEPERS)]
    with Processes() as children:
        caught = []

        def body() -> None:
            process = {"cwd": str(tmp_path), "env": dict(os.environ)}
            try:
                children.run(command, process, print)
            except Stopped:
                caught.append("stopped")

        thread = threading.Thread(target=body)
        thread.start()
        pids = written_pids(tmp_path)
        assert os.getpgid(pids[0]) == pids[0]
        children.stop()
        thread.join()
    assert caught == ["stopped"]
    wait_until(lambda: not any(map(alive, pids)))


def test_a_failed_forked_command_has_status_and_last_line(server, module, tmp_path):
    command = module("import sys; print('because', file=sys.stderr); sys.exit(75)")
    process = {"cwd": str(tmp_path), "env": dict(os.environ)}
    with Processes() as children, pytest.raises(CommandFailed) as caught:
        children.run(["/bin/sh", "-c", command], process, lambda _: None)
    assert (caught.value.status, caught.value.reason) == (75, "because")


def test_forked_commands_end_if_the_program_is_killed(module, tmp_path):
    module(SLEEPERS)
    program = f"""
import os, sys
if __name__ == "__main__":
    from prefect_dvc import forkserver
    from prefect_dvc.processes import Processes
    forkserver.start(('json',)).wait()
    with Processes() as children:
        process = dict(cwd={str(tmp_path)!r}, env=dict(os.environ))
        children.run(["/bin/sh", "-c", "python -m step"], process, print)
"""
    parent = subprocess.Popen([sys.executable, "-c", program])
    pids = written_pids(tmp_path)
    server = int(
        subprocess.check_output(["ps", "-o", "ppid=", "-p", str(pids[0])], text=True)
    )
    assert server != parent.pid, "it was forked by the server"
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not any(map(alive, [*pids, server])))


def test_the_server_ends_with_a_program_that_never_used_it(tmp_path):
    program = """
import sys
from prefect_dvc import forkserver
from multiprocessing import forkserver as server
forkserver.start(('json',))
print(server._forkserver._forkserver_pid)
"""
    output = subprocess.check_output([sys.executable, "-c", program], text=True)
    wait_until(lambda: not alive(int(output)))


# Prints the server's pid; then, after Ctrl-C, whether the server became ready.
PROGRAM = """
import sys, os, time
from prefect_dvc import forkserver
from multiprocessing import forkserver as server
ready = forkserver.start({preload})
try:
    print(server._forkserver._forkserver_pid, flush=True)
    sys.stdin.read()
except KeyboardInterrupt:
    pass
print(ready.wait({seconds}))
"""


def started(folder, seconds: float) -> subprocess.Popen[str]:
    """Start a program whose server takes a while to import what it preloads."""
    (folder / "slow_import.py").write_text(
        "import pathlib, time; pathlib.Path('importing').touch(); time.sleep(1.5)"
    )
    program = PROGRAM.format(preload=("slow_import",), seconds=seconds)
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_ctrl_c_does_not_end_the_server(tmp_path):
    with started(tmp_path, 60) as process:
        server = int(process.stdout.readline())
        wait_until((tmp_path / "importing").exists)
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.read() == "True\n"
    wait_until(lambda: not alive(server))


def test_a_killed_server_is_reported_as_not_ready(tmp_path):
    with started(tmp_path, 2) as process:
        server = int(process.stdout.readline())
        wait_until((tmp_path / "importing").exists)
        os.kill(server, signal.SIGKILL)
        assert process.communicate("")[0] == "False\n"
