"""Every fault at every moment of every step, in both engines: nothing is lost.

Each case runs one step of a finished small checkout again and injects a fault. The run
must succeed, or fail with one sentence and a non-zero status. It must leave no
half-written output, no process and no lock, and the next run must produce the same
hashes as a run without faults.

`make test-faults` runs all cases and then writes `docs/faults.md`; `make test-all` runs
one case of each fault, except `server gone`.

Some cases can't differ from others, so the table repeats the result of those:

- The server and the databases belong to the engine, whatever the step, so their faults
  are tested with `train` alone. `dvc repro` uses no server and has no `promote`.
- At its start a step has no open files and is the same program in both engines, so the
  flow is tested at that moment with `download` (a folder), `train` (files) and
  `promote` (no stage).
"""

import itertools
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from checkouts import git
from disturbed import DISK_BYTES, FLOW, PROMOTE, REPRO, VARIANT, Case, Engine, Lab
from samples import ROOT
from servers import server_environment, start_server, stop_server, wait_until

# The DVC stage of each step.
STEPS = {
    "download": "download",
    "validate": "validate",
    "normalize": "normalize",
    "baseline": "baseline",
    "train": f"train@{VARIANT}",
    "evaluate": "evaluate",
    "report": "report",
    "promote": PROMOTE,
}
MOMENTS = ("start", "middle", "end")
ENGINES = {engine.name: engine for engine in (FLOW, REPRO)}
LOCKED_SECONDS = 3
GONE_SECONDS = 2

Act = Callable[[Lab, int], None]


def send(number: int) -> Act:
    """Send a signal to the engine alone."""

    def act(lab: Lab, process: int) -> None:
        os.kill(process, number)

    return act


def press_ctrl_c(lab: Lab, process: int) -> None:
    """Send SIGINT to the process group, like a terminal does."""
    os.killpg(process, signal.SIGINT)


def lock_databases(lab: Lab, process: int) -> None:
    """Lock every database of the engines for a while."""
    server = Path(lab.environment["PREFECT_HOME"]) / "prefect.db"
    paths = [server, *(lab.root / "site").rglob("*.db")]
    assert len(paths) > 1
    with ExitStack() as stack:
        for path in paths:
            base = sqlite3.connect(path, timeout=30, isolation_level=None)
            stack.callback(base.close)
            base.execute("BEGIN EXCLUSIVE")
        lab.resume()
        time.sleep(LOCKED_SECONDS)


class Fault(NamedTuple):
    """A fault.

    Attributes:
        name: a method of `Injector` in `injected/`, called in the step's process.
        outcomes: how the run may end.
        act: what else happens while the step waits.
        leaves_temporary: whether a temporary file may be left for the next run.
    """

    name: str
    outcomes: set[str]
    act: Act | None = None
    leaves_temporary: bool = False


FAULTS = {
    "kill -9": Fault("wait", {"killed"}, send(signal.SIGKILL), leaves_temporary=True),
    "SIGTERM": Fault("wait", {"stopped"}, send(signal.SIGTERM)),
    "Ctrl-C": Fault("wait", {"stopped"}, press_ctrl_c),
    "full disk": Fault("full", {"failed"}),
    # Files in a read-only folder can't be removed.
    "read-only folder": Fault("readonly", {"failed"}, leaves_temporary=True),
    "memory limit": Fault("memory", {"failed", "success"}, leaves_temporary=True),
    "crash": Fault("crash", {"failed"}, leaves_temporary=True),
    "server gone": Fault("wait", {"success"}),
    "database locked": Fault("wait", {"success"}, lock_databases),
}
ENGINE_FAULTS = {"server gone", "database locked"}
TESTED_AT_START = {"download", "promote"}
# Everything is written by then, and no engine records it.
NEEDS_NO_SPACE = ("flow", "full disk", "promote", "end")
# For `make test-all`: one case of each fault; a restart of the server takes too long.
REPRESENTATIVE = {
    ("dvc repro", "kill -9", "normalize", "middle"),
    ("flow", "SIGTERM", "promote", "middle"),
    ("dvc repro", "Ctrl-C", "download", "middle"),
    ("dvc repro", "full disk", "normalize", "end"),
    ("dvc repro", "read-only folder", "validate", "end"),
    ("dvc repro", "memory limit", "normalize", "start"),
    ("dvc repro", "crash", "download", "end"),
    ("dvc repro", "database locked", "train", "middle"),
}

Key = tuple[str, str, str, str]


def same_as(key: Key) -> Key | None:
    """Return the case that is tested for this one; None if it can't happen."""
    engine, fault, step, moment = key
    if engine == "dvc repro" and (fault == "server gone" or step == "promote"):
        return None
    if fault in ENGINE_FAULTS:
        return engine, fault, "train", moment
    if engine == "flow" and moment == "start" and step not in TESTED_AT_START:
        return engine, fault, "train", moment
    return key


ALL = [
    (engine, fault, step, moment)
    for fault, step, engine, moment in itertools.product(
        FAULTS, STEPS, ENGINES, MOMENTS
    )
]
# The flow replaces dvc.lock itself, as a whole.
RECORDING = [
    ("flow", fault, "train", "record")
    for fault in ("kill -9", "SIGTERM", "Ctrl-C", "full disk")
]
TESTED = [key for key in ALL if same_as(key) == key] + RECORDING


class Result(NamedTuple):
    """The outcome of a case in one word, and the run's own message."""

    outcome: str
    message: str


@pytest.fixture(scope="session")
def results() -> dict[Key, Result]:
    """The result of each case that was tested."""
    return {}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small, prefect_server) -> Iterator[Lab]:
    """A finished checkout, on a small disk of its own if mounting is permitted."""
    root = tmp_path_factory.mktemp("lab")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(root)]
    on_disk = (
        shutil.which("mount") is not None
        and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    )
    try:
        lab = Lab(root, prefect_server)
        lab.build(small)
        yield lab
    finally:
        if on_disk:
            subprocess.run(["umount", "--lazy", str(root)], check=True)


@pytest.fixture
def lab(finished) -> Iterator[Lab]:
    """The finished checkout; it is restored after a test that failed."""
    yield finished
    finished.remove_fault()
    for process in finished.processes():
        process.kill()
    if finished.read_lock() != finished.lock or finished.hashes() != finished.outputs:
        git(finished.project, "checkout", "-q", ".")
        for name in finished.unexpected_files():
            (finished.project / name).unlink()
        finished.run(REPRO)


@pytest.fixture
def own_server(tmp_path) -> Iterator[tuple[dict[str, str], Act]]:
    """The settings of a server, and a function that kills and restarts the server."""
    environment = server_environment(tmp_path)
    servers = [start_server(environment)]

    def restart(lab: Lab, process: int) -> None:
        os.killpg(servers[-1].pid, signal.SIGKILL)
        servers[-1].wait()
        lab.resume()
        time.sleep(GONE_SECONDS)
        servers.append(start_server(environment))

    settings = {k: v for k, v in environment.items() if k.startswith("PREFECT_")}
    yield settings, restart
    for server in servers:
        stop_server(server)


def marked(key: Key):
    mark = pytest.mark.slow if key in REPRESENTATIVE else pytest.mark.faults
    return pytest.param(key, marks=mark, id="-".join(key))


@pytest.mark.parametrize(
    "key", [marked(key) for key in TESTED if key[1] != "server gone"]
)
def test_fault_costs_nothing_but_time(lab, results, key):
    fault = key[1]
    if fault == "read-only folder" and not permissions_apply():
        pytest.skip("root may write everywhere, and setpriv is missing")
    results[key] = survive(lab, key, FAULTS[fault].act)


@pytest.mark.faults
@pytest.mark.parametrize("moment", MOMENTS)
def test_flow_survives_a_restart_of_the_server(
    lab, results, own_server, monkeypatch, moment
):
    settings, restart = own_server
    monkeypatch.setattr(lab, "environment", lab.environment | settings)
    key = ("flow", "server gone", "train", moment)
    results[key] = survive(lab, key, restart)


@pytest.mark.faults
def test_git_restores_a_half_written_dvc_lock(lab):
    case = Case("wait", STEPS["train"], "record")
    lab.run_with_fault(REPRO, case, send(signal.SIGKILL))
    assert not lab.read_lock().items() >= lab.lock.items()
    git(lab.project, "checkout", "dvc.lock")
    assert_same_results(lab, FLOW)


@pytest.mark.faults
def test_page_has_the_results_of_all_cases(results):
    missing = [key for key in TESTED if key not in results]
    if missing:
        pytest.skip(f"{len(missing)} of {len(TESTED)} cases were not run or failed")
    (ROOT / "docs" / "faults.md").write_text(page(results), encoding="utf-8")


def permissions_apply() -> bool:
    return os.geteuid() != 0 or shutil.which("setpriv") is not None


def survive(lab: Lab, key: Key, act: Act | None) -> Result:
    """Run a case and check that nothing is lost."""
    name, fault, step, moment = key
    engine, expected = ENGINES[name], FAULTS[fault]

    def act_at_the_moment(lab: Lab, process: int) -> None:
        assert act
        act(lab, process)
        if moment == "record":
            # The engine itself waits, and handles the signal when it continues.
            lab.resume()

    case = Case(expected.name, STEPS[step], moment)
    ended = lab.run_with_fault(engine, case, act_at_the_moment if act else None)
    lab.remove_fault()
    wait_until(lambda: not lab.processes())
    outcome = outcome_of(fault, ended.status)
    outcomes = {"success"} if key == NEEDS_NO_SPACE else expected.outcomes
    assert outcome in outcomes, ended.output
    assert "Traceback" not in ended.output, ended.output
    message = message_in(lab, engine, step, ended.output)
    may_be_silent = outcome in {"killed", "success"} or (
        outcome == "stopped" and engine is REPRO
    )
    assert message or may_be_silent, ended.output
    assert message.count("\n") <= 2, message

    assert lab.changed_outputs() == []
    assert lab.read_lock().items() <= lab.lock.items()
    left = lab.unexpected_files()
    assert all(re.search(r"/\..+\.[a-z0-9_]{8}\.tmp$", f"/{name}") for name in left)
    assert left == [] or expected.leaves_temporary, ended.output
    if ended.status >= 0:
        # DVC itself ignores the locks of processes that were killed.
        assert lab.locks_of(ended.process) == set()
    if step == "promote":
        assert_same_results(lab, FLOW)
        assert lab.has_champion()
    else:
        assert_same_results(lab, REPRO if moment in {"start", "end"} else engine)
    return Result(outcome, message)


def assert_same_results(lab: Lab, engine: Engine) -> None:
    """Run the engine once more, and compare with the run without faults."""
    again = lab.run(engine)
    assert again.status == 0, again.output
    assert lab.read_lock() == lab.lock
    assert lab.hashes() == lab.outputs


def outcome_of(fault: str, status: int) -> str:
    """Return the outcome in one word."""
    if status == 0:
        return "success"
    if status == -signal.SIGKILL:
        return "killed"
    return "stopped" if fault in {"SIGTERM", "Ctrl-C"} else "failed"


def message_in(lab: Lab, engine: Engine, step: str, output: str) -> str:
    """Return the run's own message, without paths and names of one run."""
    if engine is FLOW:
        task = rf"Task run '{STEPS[step]}' - Finished in state (\w+)\((.*)\)$"
        found = [
            f"{state}: {re.sub(', type=[A-Z]+$', '', reason)}"
            for state, reason in re.findall(task, output, re.MULTILINE)
            if state not in {"Completed", "Cached"}
        ]
        crashed = r"Finished in state Crashed\('(.*?)'\)$"
        found += re.findall(crashed, output, re.MULTILINE)
        found += re.findall(r"^Stopped by .*", output, re.MULTILINE)
    else:
        found = re.findall(rf"^tasks\.{step}: .*|^ERROR: .*", output, re.MULTILINE)
    text = "\n".join(found).replace(f"{lab.project}/", "")
    return re.sub(r"\.[a-z0-9_]{8}\.tmp", ".tmp", text)


def page(results: dict[Key, Result]) -> str:
    """Return the content of `docs/faults.md`."""
    return "\n".join(
        [INTRODUCTION, *outcome_table(results), MESSAGES, *message_table(results), ""]
    )


def outcome_table(results: dict[Key, Result]) -> Iterator[str]:
    """Yield a row per fault, step and engine; brackets mark cases not tested."""
    yield "| fault | step | engine | start | middle | end | next run |"
    yield "|---|---|---|---|---|---|---|"
    for fault, step, engine in itertools.product(FAULTS, STEPS, ENGINES):
        cells = []
        for moment in MOMENTS:
            key = (engine, fault, step, moment)
            if tested := same_as(key):
                outcome = results[tested].outcome
                cells.append(outcome if tested == key else f"({outcome})")
        if cells:
            yield f"| {fault} | {step} | {engine} | {' | '.join(cells)} | same hashes |"
    yield ""
    yield "| fault, while the flow records a result | outcome | next run |"
    yield "|---|---|---|"
    for key in RECORDING:
        yield f"| {key[1]} | {results[key].outcome} | same hashes |"


def message_table(results: dict[Key, Result]) -> Iterator[str]:
    """Yield a row per fault and engine with the messages of one step."""
    yield "| fault | engine | message (`train`, middle) |"
    yield "|---|---|---|"
    for fault, engine in itertools.product(FAULTS, ENGINES):
        key = same_as((engine, fault, "train", "middle"))
        if key:
            lines = results[key].message.splitlines()
            message = "<br>".join(f"`{line.replace('|', '/')}`" for line in lines)
            yield f"| {fault} | {engine} | {message or 'none'} |"


INTRODUCTION = """\
# Faults

This page shows how every step of the pipeline survives every fault: at the start of the
step, while one of its outputs is half written, and just before its last output is
renamed. `make test-faults` writes this page from its results. The tests inject the
faults; the steps have no code for them.

- **success**: the run continued and succeeded.
- **failed**, **stopped**: the run ended with a non-zero status; see its message below.
- **killed**: the run ended without a chance to say anything.
- In brackets: not tested, because the case can't differ from the one whose outcome is
  shown. The server and the databases belong to the engine, whatever the step. At its
  start a step has no open files and is the same program in both engines. `dvc repro`
  has no `promote` and uses no server.
- **Next run**: one more run produced the same `dvc.lock` and the same files as a run
  without faults.

After every case, no output is half written under its final name, no process runs, and
no lock blocks the next run. A temporary file (`.NAME.*.tmp`) is left only if it could
not be removed: the process was killed or crashed, or the folder became read-only. git
and DVC ignore these files, and the next run that writes the output removes them.

A full disk and read-only folders affect all processes. The memory limit affects the
step alone and allows no more than the step uses by then; late in a step, no more is
needed. While the server is gone, the flow retries for about a minute; both engines wait
as long for a locked database.

`dvc repro` writes `dvc.lock` in place. If it is killed at that moment, half of the file
may be left. DVC then refuses the file, or assumes that some stages never ran.
`git checkout dvc.lock` restores it. The flow replaces `dvc.lock` as a whole.
"""
MESSAGES = "\n## Messages\n"
