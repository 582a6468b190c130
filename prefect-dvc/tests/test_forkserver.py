"""A forked command is the command: its output, its status, its folder, its end."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from conftest import ROOT, wait_until

from prefect_dvc.processes import CommandFailed, Processes, Stopped


@pytest.fixture(scope="module")
def server():
    """The server, when it has imported what it should."""
    assert forkserver.start().wait(60)


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
        ("python -m tasks.train scratch_sgd", True),
        ("python -m tasks.normalize", True),
        ("python -m tasks.train --name=a/b,c:d@e", True),
        ("python -m tasks.train $NAME", False),
        ("python -m tasks.train a > b", False),
        ("python -m tasks.train 'a b'", False),
        ("python -m tasks.train *", False),
        ("python -m tasks.train a; rm b", False),
        ("python -m tasks.train\nrm b", False),
        ("python tasks/train.py", False),
        ("python3 -m tasks.train", False),
        ("cat a", False),
    ],
)
def test_only_commands_without_work_for_a_shell_are_forked(server, command, plain):
    assert forkserver.can_run(command) is plain


def test_output_and_status_are_the_commands(server, module, tmp_path):
    command = module("""
        import sys
        print("said")
        print("complained", file=sys.stderr)
        sys.exit(3)
    """)
    assert run(command, tmp_path) == (3, "said\ncomplained\n")


def test_an_error_is_a_traceback_and_status_1(server, module, tmp_path):
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


def test_imports_are_done_and_prefect_is_not_among_them(server, module, tmp_path):
    command = module("""
        import sys
        print("torch" in sys.modules, "prefect" in sys.modules, "tasks" in sys.modules)
    """)
    assert run(command, tmp_path) == (0, "True False False\n")


def test_a_step_is_read_anew_each_time(server, module, tmp_path):
    assert run(module("print('one')"), tmp_path) == (0, "one\n")
    assert run(module("print('other')"), tmp_path) == (0, "other\n")


def test_a_forked_step_computes_what_an_ordinary_one_does(server, module, tmp_path):
    command = module("""
        import torch
        from tasks.runtime import cli
        cli.limit_threads()
        x = torch.randn(300, 784, generator=torch.Generator().manual_seed(0))
        print((x @ x.t()).sum().item().hex(), torch.get_num_threads())
    """)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ordinary = subprocess.run(
        [sys.executable, *command.split()[1:]],
        cwd=tmp_path,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    (tmp_path / "tasks").symlink_to(ROOT / "tasks")
    assert run(command, tmp_path) == (0, ordinary)


def test_no_status_is_lost_between_threads(server, module, tmp_path):
    command = ["/bin/sh", "-c", module("")]
    process = {"cwd": str(tmp_path), "env": dict(os.environ)}
    failures = []

    def run_many(children: Children) -> None:
        for _ in range(150):
            try:
                children.run(command, process, print)
            except CommandFailed as failure:
                failures.append(failure.status)

    with Processes(2) as children:
        threads = [threading.Thread(target=run_many, args=[children]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_the_server_can_be_asked_for_by_several_threads_at_once():
    program = f"""
import sys, threading
sys.path.insert(0, {str(ROOT)!r})
from prefect_dvc import forkservererver
forkserver.PRELOAD[:] = []
threads = [threading.Thread(target=forkserver.start) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""


SLEEPERS = """
    import subprocess, time
    from pathlib import Path
    other = subprocess.Popen(["sleep", "60"])
    Path("pids").write_text(f"{__import__('os').getpid()} {other.pid}")
    time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie has ended; who should wait for it may be gone with it.
    stat = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return not stat.startswith("Z") and bool(stat)


def written_pids(folder) -> list[int]:
    wait_until(lambda: (folder / "pids").exists() and (folder / "pids").read_text())
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def test_children_fork_what_they_can_and_end_all_of_it(server, module, tmp_path):
    command = ["/bin/sh", "-c", module(SLEEPERS)]
    with Processes(1) as children:
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
        started = time.monotonic()
        children.stop()
        thread.join()
    assert time.monotonic() - started < 2.5
    assert caught == ["stopped"]
    wait_until(lambda: not any(map(alive, pids)), seconds=2)


def test_children_tell_why_a_forked_command_failed(server, module, tmp_path):
    command = module("import sys; print('because', file=sys.stderr); sys.exit(75)")
    process = {"cwd": str(tmp_path), "env": dict(os.environ)}
    with Processes(1) as children, pytest.raises(CommandFailed) as caught:
        children.run(["/bin/sh", "-c", command], process, lambda _: None)
    assert (caught.value.status, caught.value.last_line) == (75, "because")


def test_nothing_is_left_when_the_program_is_killed(module, tmp_path):
    module(SLEEPERS)
    program = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
if __name__ == "__main__":
    from prefect_dvc import forkservererver
    from prefect_dvc.processes import Processes
    forkserver.start().wait()
    with Processes(1) as children:
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
    wait_until(lambda: not any(map(alive, [*pids, server])), seconds=10)


def test_the_server_ends_with_a_program_that_did_not_need_it(tmp_path):
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from prefect_dvc import forkservererver
from multiprocessing import forkservererver
forkserver.start()
print(forkserver._forkserver._forkserver_pid)
"""
    output = subprocess.check_output([sys.executable, "-c", program], text=True)
    wait_until(lambda: not alive(int(output)), seconds=1)


# A program that a signal meets while its server imports; it says what it has then.
MEETS = """
import sys, os, time
sys.path.insert(0, {root!r})
from prefect_dvc import forkservererver
from multiprocessing import forkservererver
ready = forkserver.start()
print(forkserver._forkserver._forkserver_pid, flush=True)
try:
    sys.stdin.read()
except KeyboardInterrupt:
    pass
print(ready.wait({seconds}))
"""


def meets(seconds: float) -> subprocess.Popen[str]:
    program = MEETS.format(root=str(ROOT), seconds=seconds)
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_ctrl_c_is_for_the_program_and_not_for_its_server():
    with meets(60) as process:
        server = int(process.stdout.readline())
        time.sleep(0.3)  # by then it imports
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.read() == "True\n"
    wait_until(lambda: not alive(server))


def test_a_server_that_was_killed_is_done_without():
    with meets(1) as process:
        server = int(process.stdout.readline())
        time.sleep(0.3)  # by then it imports, and somebody waits for it
        os.kill(server, signal.SIGKILL)
        time.sleep(0.3)  # for the one who waits to notice
        assert process.communicate("")[0] == "False\n"
